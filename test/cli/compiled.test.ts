/** The form of the program that the build makes: the engine that made it takes it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Script } from 'node:vm';
import { beforeAll, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const folder = join(ROOT, 'dist', 'cli');

beforeAll(() => ensureBuilt());

it('is taken by the engine that made it, for the program beside it', () => {
  const text = `(function(exports,require,module,__filename,__dirname){${readFileSync(join(folder, 'program.js'), 'latin1')}\n})`;
  const cachedData = readFileSync(join(folder, 'program.cache'));
  expect(new Script(text, { cachedData }).cachedDataRejected).toBe(false);
  expect(new Script(`${text} `, { cachedData }).cachedDataRejected).toBe(true);
});

it('is text that any engine reads alike', () => {
  expect(readFileSync(join(folder, 'program.js')).every((byte) => byte < 128)).toBe(true);
});
