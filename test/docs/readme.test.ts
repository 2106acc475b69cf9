/** The examples of the README do what it says, on the built package. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';
import { examplesOf, Workplace } from './workplace.ts';

const run = promisify(execFile);
const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

/** Guest content of samples/disk.vdi, as its README has it. */
const SAMPLE_SHA256 = /SHA-256 \| `([0-9a-f]{64})`/.exec(readFileSync(join(ROOT, 'samples/README.md'), 'utf8'))?.[1];

describe('README', () => {
  let place: Workplace;

  beforeAll(() => {
    ensureBuilt();
    place = new Workplace();
  }, 120_000);
  afterAll(() => place.remove());

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
  const vdkit = async (args: string[]): Promise<string> => (await place.vdkit(args)).stdout;
  /** npm in this clone, started from the folder: it runs where it was called. */
  const npm = async (args: string[]): Promise<string> => {
    const how = { cwd: place.folder, shell: process.platform === 'win32' };
    const { stdout } = await run('npm', [`--prefix=${ROOT}`, ...args], how);
    return stdout;
  };
  const sha256 = (name: string): string =>
    createHash('sha256')
      .update(readFileSync(join(place.folder, name)))
      .digest('hex');

  it('first screen: the command and the program convert an image', async () => {
    await runLines(blockAfter('# vdkit', 'sh'));
    place.put('first.mjs', blockAfter('# vdkit', 'js'));
    expect((await place.node(['first.mjs'])).stdout).toBe('8388608\n');
    expect(await vdkit(['compare', 'disk.qcow2', 'copy.qcow2'])).toContain('identical');
  });

  it('first command: converts the sample from a clone', async () => {
    await runLines(blockAfter('## Two commands', 'sh'));
    expect(sha256('disk.raw')).toBe(SAMPLE_SHA256);
    rmSync(join(place.folder, 'disk.raw'));
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
    place.put('example.mjs', blockAfter('**From your program.**', 'js'));
    const { stdout } = await place.node(['example.mjs']);
    expect(stdout).toContain('vdi, 8388608 bytes');
    expect(stdout).toContain('has a partition table: true');
    expect(stdout).toMatch(/^4194304 \d+ data 1$/m);
  });
});

describe('commands of the documents', () => {
  const lines = ['README.md', 'docs/write-a-format.md'].flatMap((page) =>
    examplesOf(page, 'sh').map(({ heading, code }) => [page, heading, code.trim().split('\n')] as const),
  );

  it.each(lines.filter(([, , [first]]) => first?.startsWith('vdkit ')))(
    'run as they stand, and never replace a file: %s, %s',
    async (_page, _heading, block) => {
      const place = new Workplace();
      try {
        for (const line of block) await place.vdkit(line.split(' ').slice(1));
        // The second time a command does the same again, or refuses to replace what it made, and says how it would.
        for (const line of block) {
          const failed = await place.vdkit(line.split(' ').slice(1)).then(
            () => null,
            ({ stderr }: { stderr: string }) => stderr,
          );
          if (failed !== null) expect(failed, line).toMatch(/already exists[\s\S]*hint: .*--force/);
        }
      } finally {
        place.remove();
      }
    },
  );
});
