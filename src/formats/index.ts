/**
 * The built-in formats. The order is the probing order among equal answers; raw is last, since it accepts everything.
 */
import { FILTERS } from '../filters/index.ts';
import type { CacheFormat } from '../image/cache.ts';
import type { Format } from '../image/contract.ts';
import { Registry } from '../image/registry.ts';
import { bochs } from './bochs/index.ts';
import { cloop } from './cloop/index.ts';
import { cue } from './cue/index.ts';
import { dmg } from './dmg/index.ts';
import { parallels } from './parallels/index.ts';
import { qcow } from './qcow/index.ts';
import { qcow2 } from './qcow2/index.ts';
import { qed } from './qed/index.ts';
import { raw } from './raw/index.ts';
import { RECOGNISED } from './recognised/index.ts';
import { sparsebundle } from './sparsebundle/index.ts';
import { sparseimage } from './sparseimage/index.ts';
import { vci } from './vci/index.ts';
import { vdi } from './vdi/index.ts';
import { vhd } from './vhd/index.ts';
import { vhdx } from './vhdx/index.ts';
import { viso } from './viso/index.ts';
import { vmdk } from './vmdk/index.ts';

/** All built-in formats, in probing order. */
export const FORMATS: readonly Format[] = [
  vdi,
  vmdk,
  vhd,
  parallels,
  vhdx,
  dmg,
  sparseimage,
  sparsebundle,
  cue,
  viso,
  ...RECOGNISED,
  qcow2,
  qcow,
  qed,
  bochs,
  cloop,
  raw,
];

/** All built-in formats of cache images. */
export const CACHES: readonly CacheFormat[] = [vci];

/** A registry of the built-in formats and filters; programs may add their own. */
export function defaultRegistry(): Registry {
  return new Registry(FORMATS, FILTERS, CACHES);
}
