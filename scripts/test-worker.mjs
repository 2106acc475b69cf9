/** Runs in a worker of vitest before each file: leaves the worker's process number for `supervise.mjs`. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';

const folder = process.env.VDKIT_TEST_WORKERS;
const { testPath } = expect.getState();
if (folder !== undefined && testPath !== undefined) {
  try {
    writeFileSync(join(folder, String(process.pid)), testPath);
  } catch {
    // The run is being ended and its folder removed.
  }
}
