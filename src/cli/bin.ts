#!/usr/bin/env node
/**
 * The executable: loads the program that lies beside it, in the form that the engine made of it when it was built, which
 * saves a third of a start. An engine that is not the one of the build refuses that form and compiles as always; newer
 * ones keep one by themselves.
 */
import { readFileSync } from 'node:fs';
import * as modules from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { load } from './load.ts';

type Program = typeof import('./program.ts');

const folder = dirname(fileURLToPath(import.meta.url));
void start(join(folder, 'program.js'), join(folder, 'program.cache')).main((address) => import(address));

function start(file: string, cache: string): Program {
  // From Node 22.8 on.
  const { enableCompileCache } = modules as { enableCompileCache?: () => void };
  if (enableCompileCache === undefined) return load<Program>(file, compiledForm(cache)).program;
  enableCompileCache();
  return modules.createRequire(file)(file) as Program;
}

function compiledForm(cache: string): Uint8Array | undefined {
  try {
    return readFileSync(cache);
  } catch {
    // Built without one.
    return undefined;
  }
}
