/** The form of the program that the build makes: the engine that made it takes it, and everything works in it. */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const built = join(ROOT, 'dist', 'cli');
const folder = mkdtempSync(join(tmpdir(), 'vdkit-compiled-'));

beforeAll(() => ensureBuilt());
afterAll(() => rmSync(folder, { recursive: true }));

function run(words: readonly string[], environment: Record<string, string> = {}) {
  const options = { cwd: folder, env: { ...process.env, ...environment } };
  return promisify(execFile)(process.execPath, [join(built, 'bin.js'), ...words], options);
}

it('is taken by the engine that made it, for the program beside it', () => {
  // An engine with other options than the program's, such as that of the tests, takes no cache.
  const code = `
    const { readFileSync } = require('node:fs');
    const { Script } = require('node:vm');
    const text = '(function(exports,require,module,__filename,__dirname){' + readFileSync('program.js', 'latin1') + '\\n})';
    const cachedData = readFileSync('program.cache');
    const refused = [text, text + ' '].map((source) => new Script(source, { cachedData }).cachedDataRejected);
    console.log(refused.join());`;
  expect(execFileSync(process.execPath, ['-e', code], { cwd: built, encoding: 'utf8' })).toBe('false,true\n');
});

it('is text that any engine reads alike', () => {
  expect(readFileSync(join(built, 'program.js')).every((byte) => byte < 128)).toBe(true);
});

it('loads plugins, which are modules', async () => {
  const { stdout, stderr } = await run(['--plugin', join(ROOT, 'examples', 'VDPluginBoxes.mjs'), 'formats']);
  expect(stdout).toMatch(/^boxes /m);
  expect(stderr).toBe('');
});

it('loads a library that lies beside it', async () => {
  const sample = join(ROOT, 'samples', 'disk.vdi');
  // Without the system's library, the one that is a separate module.
  await run(['convert', sample, 'zstd.qcow2', '--compress=zstd', '--quiet'], { VDKIT_NO_NATIVE: '1' });
  expect((await run(['compare', sample, 'zstd.qcow2'])).stdout).toMatch(/identical/);
});
