#!/usr/bin/env node
/**
 * The executable: loads the program that lies beside it, in the form that the engine made of it when it was built, which
 * saves a third of a start. An engine that is not the one of the build refuses that form and compiles as always. Nothing
 * is kept elsewhere: newer ones would do so in a folder for temporary files, which others may have made before us.
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
