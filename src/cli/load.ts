/** Loads the program from one file, with or without code that the engine compiled earlier. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Script } from 'node:vm';

type Wrapper = (exports: object, require: NodeJS.Require, module: object, file: string, folder: string) => void;

/** Result of `load`. */
export interface Loaded<T> {
  readonly script: Script;
  /** The file's exports. */
  readonly program: T;
}

/**
 * Runs a CommonJS file of ASCII text as Node's own loader would, except that `import()` fails. `compiled` is ignored if
 * another engine version made it.
 */
export function load<T extends object>(file: string, compiled: Uint8Array | undefined): Loaded<T> {
  const text = `(function(exports,require,module,__filename,__dirname){${readFileSync(file, 'latin1')}\n})`;
  const script = new Script(text, {
    filename: file,
    cachedData: compiled,
  });
  const module = { exports: {} as T };
  const wrapper: Wrapper = script.runInThisContext();
  wrapper(module.exports, createRequire(file), module, file, dirname(file));
  return { script, program: module.exports };
}
