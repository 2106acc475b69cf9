/** `npm start` from a clone never lets npm's banner into data on standard output. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isSpoiltByNpm, shellWords } from '../../scripts/npm-banner.mjs';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const SAMPLE = join(ROOT, 'samples/disk.vdi');
const UNDER_NPM = { npm_lifecycle_event: 'start' };

describe('npm start', () => {
  let folder: string;
  beforeAll(() => {
    ensureBuilt();
    folder = mkdtempSync(join(tmpdir(), 'vdkit-start-'));
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs a program with standard output in a file. */
  const intoFile = (program: string, words: readonly string[]) => {
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name)));
    const file = openSync(join(folder, 'output'), 'w');
    const { status, stderr } = spawnSync(program, words, {
      cwd: ROOT,
      env: { ...env, INIT_CWD: '' },
      stdio: ['ignore', file, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(file);
    return { status, stderr, output: readFileSync(join(folder, 'output')) };
  };

  it('refuses to write an image behind the banner, and names a command that works', () => {
    const refused = intoFile('npm', ['start', '--', 'convert', SAMPLE, '-']);
    expect(refused.status).not.toBe(0);
    expect(refused.stderr).toContain('error: npm has printed its banner to standard output');
    const command = /^hint: Run: node (.*)$/m.exec(refused.stderr)?.[1]?.split(' ') ?? [];
    expect(command).toEqual(['scripts/start.mjs', 'convert', SAMPLE, '-']);
    const { status, output } = intoFile(process.execPath, command);
    expect({ status, length: output.length }).toEqual({ status: 0, length: 8_388_608 });
  });

  it('writes the image alone when npm is silent', () => {
    const { status, output } = intoFile('npm', ['start', '--silent', '--', 'convert', SAMPLE, '-']);
    expect({ status, length: output.length }).toEqual({ status: 0, length: 8_388_608 });
  });

  it.each([
    ['convert a.vdi -'],
    ['convert a.vdi - --format raw'],
    ['convert --format vdi a.vdi -'],
    ['convert - -'],
    ['info a.vdi --json'],
    ['completion bash'],
  ])('protects the output of: %s', (words) => {
    expect(isSpoiltByNpm(words.split(' '), UNDER_NPM, false)).toBe(true);
    expect(isSpoiltByNpm(words.split(' '), { ...UNDER_NPM, npm_config_loglevel: 'silent' }, false)).toBe(false);
    expect(isSpoiltByNpm(words.split(' '), UNDER_NPM, true)).toBe(false);
    expect(isSpoiltByNpm(words.split(' '), {}, false)).toBe(false);
  });

  it.each([['convert a.vdi b.raw'], ['convert - a.vdi --format raw'], ['info a.vdi']])(
    'lets these through: %s',
    (words) => {
      expect(isSpoiltByNpm(words.split(' '), UNDER_NPM, false)).toBe(false);
    },
  );

  it('quotes names in the command that works', () => {
    expect(shellWords(['convert', "it's here.vdi", '-'])).toBe("convert 'it'\\''s here.vdi' -");
  });
});
