#!/usr/bin/env node
/**
 * The executable: loads the program next to it, in the form that the engine compiled at build time, which saves a third
 * of a start. Another engine version refuses that form and compiles the source as usual. Nothing is cached elsewhere:
 * the engine's own cache lies in a folder for temporary files, which another user may have created.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { load } from './load.ts';

type Program = typeof import('./program.ts');

const folder = dirname(fileURLToPath(import.meta.url));
const { program } = load<Program>(join(folder, 'program.js'), compiledForm(join(folder, 'program.cache')));
void program.main((address) => import(address));

function compiledForm(cache: string): Uint8Array | undefined {
  try {
    return readFileSync(cache);
  } catch {
    // Built without one.
    return undefined;
  }
}
