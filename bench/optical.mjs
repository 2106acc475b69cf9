/** Rows of discs that are made as they are read: a VISO file beside reading the files that it names. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { seeded } from './data.mjs';

const MIB = 1024 ** 2;
const MARKER = '--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc';

/** Trees of files, and aim and limit of the ratio of whole processes: 1.25 of the time is 0.8 of the speed. */
const TREES = [
  { name: 'large files', directory: 'large', count: 64, bytes: 32 * MIB, aim: 1.25, limit: 1.5 },
  { name: '5,000 small files', directory: 'few', count: 5000, bytes: 20_000, aim: 2.5, limit: 4 },
];

/**
 * Rows, and `prepare`, which makes their files.
 * @param {{ folder: string }} place
 */
export function opticalRows({ folder }) {
  const visoOf = (directory) => join(folder, `${directory}.viso`);
  const script = join(import.meta.dirname, 'viso.mjs');
  const run = (...args) => ({ program: process.execPath, args: [script, ...args] });
  return {
    cases: TREES.map(({ name, directory, aim, limit }) => ({
      ...{ name: `read a viso, ${name}`, measures: 'pairs', aim, limit },
      ours: run('disk', visoOf(directory)),
      theirs: run('files', join(folder, directory)),
      // Both sides are Node with the library loaded.
      startUp: true,
    })),
    prepare(/** @type {(file: string) => boolean} */ needs) {
      for (const { directory, count, bytes } of TREES) {
        if (!needs(visoOf(directory))) continue;
        mkdirSync(join(folder, directory));
        const random = seeded(directory);
        for (let number = 0; number < count; number++) {
          writeFileSync(join(folder, directory, `file-${number}.bin`), random.bytes(bytes));
        }
        writeFileSync(visoOf(directory), `${MARKER}\n/=${directory}\n`);
      }
    },
  };
}
