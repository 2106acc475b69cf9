/** The examples of the README do what it says, on the built package. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const run = promisify(execFile);
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** Guest content of samples/disk.vdi, as its README has it. */
const SAMPLE_SHA256 = /SHA-256 \| `([0-9a-f]{64})`/.exec(readFileSync(join(ROOT, 'samples/README.md'), 'utf8'))?.[1];

describe('README', () => {
  let folder: string;

  beforeAll(async () => {
    ensureBuilt();
    // Inside the package, so that the example's `import 'vdkit'` finds it by its own name.
    await mkdir(join(ROOT, '.cache'), { recursive: true });
    folder = mkdtempSync(join(ROOT, '.cache', 'readme-'));
    symlinkSync(join(ROOT, 'samples'), join(folder, 'samples'));
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** The lines of the code block that follows a text. */
  const blockAfter = (text: string, language: string): string => {
    const from = README.indexOf(text);
    expect(from, `"${text}" is in the README`).toBeGreaterThanOrEqual(0);
    const block = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(README.slice(from))?.[1];
    expect(block).toBeDefined();
    return block ?? '';
  };
  const runLines = async (block: string): Promise<string[]> => {
    const outputs: string[] = [];
    for (const line of block.trim().split('\n')) {
      const [command = '', ...args] = line.split(' ');
      outputs.push(command === 'vdkit' ? await vdkit(args) : await npm(args));
    }
    return outputs;
  };
  const vdkit = async (args: string[]): Promise<string> => {
    const { stdout } = await run(process.execPath, [join(ROOT, 'dist/cli/bin.js'), ...args], { cwd: folder });
    return stdout;
  };
  /** npm finds the package that the folder lies in, and remembers where it was called. */
  const npm = async (args: string[]): Promise<string> => {
    const { stdout } = await run('npm', args, { cwd: folder, shell: process.platform === 'win32' });
    return stdout;
  };
  const sha256 = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');

  it('first screen: the command and the program convert an image', async () => {
    await runLines(blockAfter('# vdkit', 'sh'));
    writeFileSync(join(folder, 'first.mjs'), blockAfter('# vdkit', 'js'));
    expect((await run(process.execPath, ['first.mjs'], { cwd: folder })).stdout).toBe('8388608\n');
    expect(await vdkit(['compare', 'disk.qcow2', 'copy.qcow2'])).toContain('identical');
  });

  it('first command: converts the sample from a clone', async () => {
    await runLines(blockAfter('## Two commands', 'sh'));
    expect(sha256('disk.raw')).toBe(SAMPLE_SHA256);
    rmSync(join(folder, 'disk.raw'));
  });

  it('second command: is this one', () => {
    expect(blockAfter('installs, builds and converts', 'sh').trim()).toBe('npm test');
    expect(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).scripts.test).toBe('node scripts/test.mjs');
  });

  it('example "inspect"', async () => {
    const [info, map] = await runLines(blockAfter('**Inspect.**', 'sh'));
    expect(info).toMatch(/vdi/i);
    expect(map).not.toBe('');
    const json = JSON.parse(await vdkit(['map', 'samples/disk.vdi', '--json']));
    // Which stored bytes are holes depends on how the file was copied; which blocks are stored does not.
    const stored: number[] = [];
    for (const { offset, length, state } of json.extents as { offset: number; length: number; state: string }[]) {
      if (state !== 'absent') stored.push(Math.floor(offset / 2 ** 20), Math.floor((offset + length - 1) / 2 ** 20));
    }
    expect([...new Set(stored)]).toEqual([0, 3]);
  });

  it('example "convert"', async () => {
    await runLines(blockAfter('**Convert.**', 'sh'));
    expect(sha256('disk.raw')).toBe(SAMPLE_SHA256);
    expect(JSON.parse(await vdkit(['info', 'copy.vdi', '--json'])).variant).toContain('fixed');
  });

  it('example "maintain"', async () => {
    const [, check] = await runLines(blockAfter('**Maintain.**', 'sh'));
    expect(check).toContain('no errors found');
    const { virtualSize } = JSON.parse(await vdkit(['info', 'server.vdi', '--json']));
    expect(virtualSize).toBe(8388608 + 2 ** 30);
    expect(await vdkit(['compare', 'samples/disk.vdi', 'server.vdi'])).toContain('identical');
  });

  it('example "from your program"', async () => {
    writeFileSync(join(folder, 'example.mjs'), blockAfter('**From your program.**', 'js'));
    const { stdout } = await run(process.execPath, ['example.mjs'], { cwd: folder });
    expect(stdout).toContain('vdi, 8388608 bytes');
    expect(stdout).toContain('has a partition table: true');
    expect(stdout).toMatch(/^4194304 \d+ data 1$/m);
  });
});
