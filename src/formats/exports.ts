/**
 * The built-in formats, for the entry of the package. Names of this module, since a bundler (esbuild 0.28) that finds
 * a module which is loaded later re-exported by the entry puts it, and all formats, into every page.
 */
import type { CacheFormat } from '../image/cache.ts';
import type { Format } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import { CACHES as caches, FORMATS as formats, defaultRegistry as registry } from './index.ts';

/** All built-in formats, in probing order. */
export const FORMATS: readonly Format[] = formats;

/** All built-in formats of cache images. */
export const CACHES: readonly CacheFormat[] = caches;

/** A registry of the built-in formats and filters; programs may add their own. */
export const defaultRegistry: () => Registry = registry;
