/** The kits of all formats that can be read, found by name: adding one takes no entry in a list. */

import { FORMATS } from '../../src/formats/index.ts';
import { RECOGNISED } from '../../src/formats/recognised/index.ts';
import type { Config } from '../../src/image/contract.ts';
import type { FormatKit } from '../formats/kit.ts';
import { TOYS } from '../formats/toys/registry.ts';

const readable = FORMATS.filter((format) => format.capabilities.read && !RECOGNISED.includes(format));

/** In the order of the registry. A format without a kit fails every suite. */
export const KITS: readonly FormatKit[] = await Promise.all(readable.map(({ name }) => loadKit(name)));

/** The kits of the toys, for the suites that take a registry. */
export const TOY_KITS: readonly FormatKit[] = await Promise.all(TOYS.map(({ name }) => loadToy(name)));

/** The kit of one format. */
export function kitOf(name: string): FormatKit {
  const kit = KITS.find(({ format }) => format === name);
  if (kit === undefined) throw new Error(`test/formats/${name}.ts is missing`);
  return kit;
}

/** Config of images with units of about this size; empty where there is no choice, or no kit. */
export function unitsOf(name: string, bytes: number): Config {
  return KITS.find(({ format }) => format === name)?.units?.(bytes) ?? {};
}

interface KitModule {
  readonly kit: FormatKit;
}

/** The templates stand in the code as they are, since the bundle of the fuzzer takes the files that match them. */
async function loadKit(name: string): Promise<FormatKit> {
  return checked(name, await import(`../formats/${name}.ts`));
}

async function loadToy(name: string): Promise<FormatKit> {
  return checked(name, await import(`../formats/toys/${name}.ts`));
}

function checked(name: string, { kit }: KitModule): FormatKit {
  if (kit.format !== name) throw new Error(`the kit ${name} is that of ${kit.format}`);
  return kit;
}
