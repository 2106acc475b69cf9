/** A medium that runs full, as a small tmpfs: one line and a hint, nothing half-written, nothing changed. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

const SAMPLE = fileURLToPath(new URL('../../samples/disk.vdi', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'vdkit-full-'));

/** Mounts a tmpfs of `bytes` bytes. Null: not permitted for this user or container. */
function smallDisk(name: string, bytes: number): string | null {
  const path = join(folder, name);
  mkdirSync(path);
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'vdkit-test', path], { stdio: 'ignore' });
    return path;
  } catch {
    return null;
  }
}

const full = smallDisk('full', 64 * 1024);
const nearlyFull = smallDisk('nearly-full', 2200 * 1024);

afterAll(() => {
  for (const path of [full, nearlyFull]) if (path !== null) execFileSync('umount', [path]);
  rmSync(folder, { recursive: true, force: true });
});

describe('a full disk', () => {
  it.skipIf(full === null).each([
    ['a sparse raw target', ['convert', SAMPLE, '@out.raw']],
    ['a raw target that is written through', ['convert', SAMPLE, '@out.raw', '--sparse-size', '0']],
    ['a fixed raw target', ['convert', SAMPLE, '@out.raw', '--variant', 'fixed']],
    ['a dynamic target', ['convert', SAMPLE, '@out.vdi']],
    ['a target with a data file', ['convert', SAMPLE, '@out.qcow2', '--option', 'data_file=out.raw']],
    ['a fixed target', ['convert', SAMPLE, '@out.vdi', '--variant', 'fixed']],
    ['a new fixed image', ['create', '@out.vdi', '8M', '--variant', 'fixed']],
    ['a new fixed raw image', ['create', '@out.raw', '8M', '--variant', 'fixed']],
    ['a new image with its space in a second file', ['create', '@out.vmdk', '8M', '--preallocation', 'full']],
    ['a sparse target in a second file', ['convert', SAMPLE, '@out.vmdk', '--variant', 'fixed']],
  ] as const)('%s', async (_, words) => {
    const source = readFileSync(SAMPLE);
    const here = words.map((word) => word.replace(/^@/, `${full}/`));
    const people = await runCli(here);
    expect(people.stderr).toMatch(/^error: .+\nhint: .+\n$/);
    expect({ status: people.status, stdout: people.stdout }).toEqual({ status: 1, stdout: '' });
    const programs = await runCli([...here, '--json']);
    expect(JSON.parse(programs.stdout).error).toMatchObject({ kind: 'no-space', status: 'VERR_DISK_FULL' });
    expect(readdirSync(full ?? '')).toEqual([]);
    expect(readFileSync(SAMPLE).equals(source)).toBe(true);
  });

  it.skipIf(nearlyFull === null)('an image whose map has no room to move to', async () => {
    const image = join(nearlyFull ?? '', 'own.vdi');
    copyFileSync(SAMPLE, image);
    const { status, stderr } = await runCli(['resize', image, '1000T']);
    expect(stderr).toMatch(/^error: .+\nhint: .+\n$/);
    expect(status).toBe(1);
    const { stdout } = await runCli(['resize', image, '1000T', '--json']);
    expect(JSON.parse(stdout).error).toMatchObject({ kind: 'no-space', status: 'VERR_DISK_FULL' });
    expect(statSync(image).size).toBe(statSync(SAMPLE).size);
    expect(await runCli(['compare', image, SAMPLE])).toMatchObject({ status: 0 });
    expect(await runCli(['check', image])).toMatchObject({ status: 0 });
    expect(readdirSync(nearlyFull ?? '')).toEqual(['own.vdi']);
  });
});
