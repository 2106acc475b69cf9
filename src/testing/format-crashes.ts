/** Power cuts for any format of a registry: its own `create` and `open`, under the traffic of a busy guest. */
import { checkArguments, NAME, OBJECT, optionsOf, optionsWith, POSITIVE, WHOLE } from '../arguments.ts';
import { SECTOR } from '../binary/numbers.ts';
import { REGISTRY, WORDS } from '../disk/kinds.ts';
import type { Config } from '../image/contract.ts';
import type { Registry } from '../image/registry.ts';
import { createImage } from '../operations/create.ts';
import { openDisk } from '../operations/open.ts';
import { MemoryProvider } from '../storage/memory.ts';
import type { CrashSuite } from './crash-suite.ts';
import { type CrashSession, randomTraffic } from './session.ts';

/** An image for the power cuts. Small units and a small disk are cut in more places. */
export interface FormatCrashOptions {
  readonly registry: Registry;
  /** Name of a format that can be created and written. */
  readonly format: string;
  readonly variant?: readonly string[] | undefined;
  readonly config?: Config | undefined;
  /** Bytes of the disk. Default: about 800 KiB, the last unit not whole. */
  readonly size?: number | undefined;
  /** Sectors of a unit: the traffic fills whole ones at times. Default 8. */
  readonly unit?: number | undefined;
  readonly seed?: number | undefined;
}

const KIND = optionsWith(
  { registry: REGISTRY, format: NAME },
  optionsOf({ variant: WORDS, config: OBJECT, size: POSITIVE, unit: POSITIVE, seed: WHOLE }),
);
const USUAL_SIZE = (203 * 8 + 3) * SECTOR;

/** A suite for `runCrashSuite`: two sessions of writes, zeroes, discards and flushes. */
export function formatCrashSuite(options: FormatCrashOptions): CrashSuite {
  checkArguments('formatCrashSuite', { options: [options, KIND] });
  const { registry, variant, config, size = USUAL_SIZE, unit = 8, seed = 1 } = options;
  const { name: format, extensions, capabilities } = registry.find(options.format);
  const image = `/disk.${extensions[0]?.extension ?? format}`;
  const discards = capabilities.discard ? 0.15 : 0;
  const busy = (session: CrashSession) => randomTraffic(session, { operations: 50, unit, flushes: 0.15, discards });
  return {
    provider: new MemoryProvider(),
    image,
    size,
    seed,
    async build(provider) {
      await createImage({ provider, name: image }, { registry, format, variant, config, size });
    },
    open: (provider) => openDisk({ provider, name: image }, { registry, format, mode: 'write', flushAfterMs: 0 }),
    sessions: [busy, busy],
  };
}
