/**
 * Conversions into an image with a data file that end before they are complete: nothing is there by its own name, and the
 * same command works afterwards.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, watch, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildProgram, type Program, runProgram } from './program.ts';

const SIZE = 8 * 2 ** 20;
const FILES = ['guest.raw', 'new.qcow2'];
/** Slow enough that it is still at work when its first bytes are in the file. */
const SLOW = ['--rate-limit', String(2 ** 20)];
let program: Program;
let folder: string;

beforeAll(async () => {
  program = await buildProgram();
}, 120_000);
afterAll(() => program.remove());
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-parts-'));
  writeFileSync(join(folder, 'source.raw'), new Uint8Array(SIZE).fill(7));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const CONVERT = [
  'convert',
  'source.raw',
  'new.qcow2',
  '--format',
  'raw',
  '--option',
  'data_file=guest.raw',
  '--option',
  'data_file_raw=on',
];

/** Runs the conversion and ends it as soon as guest data is in a new file. */
function ended(signal: NodeJS.Signals) {
  const watcher = watch(folder);
  const environment = { ...process.env };
  return runProgram(program, [...CONVERT, ...SLOW], {
    cwd: folder,
    environment,
    onStart: (child) => {
      watcher.on('change', (_, name) => {
        if (!/^\.new\.qcow2\..*-1\.vdkit-tmp$/.test(String(name)) || !holdsData(join(folder, String(name)))) return;
        watcher.close();
        child.kill(signal);
      });
    },
  }).finally(() => watcher.close());
}

function holdsData(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) > 0;
}

async function expectRetry(): Promise<void> {
  const { status, stderr } = await runProgram(program, CONVERT, { cwd: folder });
  expect({ status, stderr }).toMatchObject({ status: 0 });
  expect(shown()).toEqual([...FILES, 'source.raw']);
  expect(readFileSync(join(folder, 'guest.raw')).equals(readFileSync(join(folder, 'source.raw')))).toBe(true);
}

const shown = (): string[] => readdirSync(folder).filter((name) => !name.startsWith('.'));

describe('a conversion into two files', () => {
  it('leaves nothing after Ctrl-C', async () => {
    const { status, stderr } = await ended('SIGINT');
    expect({ status, stderr }).toMatchObject({ status: 130 });
    expect(readdirSync(folder)).toEqual(['source.raw']);
    await expectRetry();
  });

  it('leaves at most temporary files when it is killed', async () => {
    expect(await ended('SIGKILL')).toMatchObject({ signal: 'SIGKILL' });
    const left = readdirSync(folder).filter((name) => name !== 'source.raw');
    expect(left.filter((name) => !/^\.(guest\.raw|new\.qcow2)\..*\.vdkit-tmp$/.test(name))).toEqual([]);
    await expectRetry();
  });

  it('can be forced twice, and deleted', async () => {
    const create = ['create', 'new.qcow2', '1M', '--option', 'data_file=guest.raw', '--force'];
    for (let time = 0; time < 2; time++) {
      const { status, stderr } = await runProgram(program, create, { cwd: folder });
      expect({ status, stderr }).toMatchObject({ status: 0 });
    }
    expect(shown()).toEqual([...FILES, 'source.raw']);
    const info = await runProgram(program, ['info', 'new.qcow2', '--json'], { cwd: folder });
    const { parts } = JSON.parse(info.stdout);
    expect(parts).toMatchObject([{ file: join(folder, 'guest.raw'), role: 'external data file', fileSize: 2 ** 20 }]);
    const refused = await runProgram(program, ['delete', 'new.qcow2'], { cwd: folder });
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/^error: .*guest\.raw.*\nhint: .*--allow/);
    expect(shown()).toEqual([...FILES, 'source.raw']);
    const deleted = await runProgram(program, ['delete', 'new.qcow2', '--allow', 'guest.raw'], { cwd: folder });
    expect(deleted).toMatchObject({ status: 0, stderr: expect.stringContaining('guest.raw') });
    expect(shown()).toEqual(['source.raw']);
  });
});
