/** The formats of vdkit and the toys, whose images are a directory, a configuration, and three files. */
import { defaultRegistry } from '../../../src/formats/index.ts';
import type { Registry } from '../../../src/image/registry.ts';
import { bundle, net } from './formats.ts';
import { halves } from './halves-format.ts';

/** Formats of the tests alone. Each has a kit of its name beside this file. */
export const TOYS = [bundle, net, halves] as const;

/** A registry with all of them. */
export function withToys(): Registry {
  const registry = defaultRegistry();
  for (const format of TOYS) registry.register(format);
  return registry;
}
