/** Bundles on the command line, and what QEMU finds in their files, which it opens one by one. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { describeWithPeers } from './peers.ts';

const SIZE = 3 * 2 ** 20;
const MIB = 2 ** 20;

describeWithPeers(['qemu-img'], 'a bundle, and its files', (qemu) => {
  let work = '';
  const at = (name: string): string => join(work, name);
  const vdkit = async (...words: string[]): Promise<string> => {
    const { status, stdout, stderr } = await runCli(words);
    expect(status, stderr).toBe(0);
    return stdout + stderr;
  };
  beforeEach(async () => {
    work = await mkdtemp(join(memoryFolder(), 'vdkit-bundles-'));
  });
  afterEach(() => rm(work, { recursive: true, force: true }));

  const filesOf = async (bundle: string): Promise<string[]> =>
    (await readdir(at(bundle))).filter((name) => name.endsWith('.hds')).sort();

  /** Content of a file as QEMU reads it, with zeroes for what is not stored. */
  async function asQemuReads(file: string): Promise<Buffer> {
    await qemu.run('convert', '-f', 'parallels', '-O', 'raw', file, at('qemu.raw'));
    return readFile(at('qemu.raw'));
  }

  it('reads in QEMU as vdkit wrote each of them', async () => {
    const base = Buffer.alloc(SIZE, 1);
    await writeFile(at('base.raw'), base);
    await vdkit('convert', at('base.raw'), at('d.hdd'), '--format', 'raw', '--to', 'parallels', '--variant', 'bundle');
    await vdkit('create', '--parent', at('d.hdd'), at('d.hdd/upper.hds'));
    const patch = Buffer.concat([base.subarray(0, MIB), Buffer.alloc(MIB, 2), base.subarray(0, MIB)]);
    await writeFile(at('patch.raw'), patch);
    await vdkit('convert', at('patch.raw'), at('d.hdd'), '--format', 'raw', '--into');
    const [lower = '', upper = ''] = await filesOf('d.hdd');
    expect(upper).toBe('upper.hds');
    expect((await asQemuReads(at(`d.hdd/${lower}`))).equals(base)).toBe(true);
    const alone = await asQemuReads(at('d.hdd/upper.hds'));
    expect(alone.subarray(MIB, 2 * MIB).equals(patch.subarray(MIB, 2 * MIB))).toBe(true);
    await qemu.run('check', '-f', 'parallels', at('d.hdd/upper.hds'));
    await vdkit('check', at('d.hdd'));
    await vdkit('merge', at('d.hdd'));
    const [merged = ''] = await filesOf('d.hdd');
    expect((await asQemuReads(at(`d.hdd/${merged}`))).equals(patch)).toBe(true);
  });

  it('is copied, moved and deleted with all files, and is not changed behind its back', async () => {
    await vdkit('create', at('d.hdd'), '3M', '--variant', 'bundle');
    await vdkit('create', '--parent', at('d.hdd'), at('d.hdd/upper.hds'));
    await writeFile(at('d.hdd/Snapshots.xml'), '<ParallelsSavedStates/>');
    for (const words of [
      ['convert', at('d.hdd/upper.hds'), at('no.raw')],
      ['delete', at('d.hdd/upper.hds')],
      ['rename', at('d.hdd/upper.hds'), at('d.hdd/other.hds')],
      ['resize', at('d.hdd/upper.hds'), '4M'],
    ]) {
      const { status, stderr } = await runCli(words);
      expect(status, words.join(' ')).not.toBe(0);
      expect(stderr).toContain('of a directory');
    }
    await mkdir(at('to'));
    await vdkit('copy', at('d.hdd'), `${at('to')}/`);
    expect(await readdir(at('to/d.hdd'))).toEqual(await readdir(at('d.hdd')));
    await vdkit('compare', at('d.hdd'), at('to/d.hdd'));
    expect((await runCli(['copy', at('d.hdd'), `${at('to')}/`])).status).not.toBe(0);
    await vdkit('copy', at('d.hdd'), `${at('to')}/`, '--force');
    expect((await runCli(['copy', at('d.hdd'), at('d.hdd/inside.hdd')])).status).not.toBe(0);
    await vdkit('copy', '--move', at('d.hdd'), at('to/e.hdd'));
    expect((await readdir(at('to'))).sort()).toEqual(['d.hdd', 'e.hdd']);
    const backing = await vdkit('info', '--backing-chain', at('to/e.hdd'), '--json');
    expect(JSON.parse(backing).chain).toHaveLength(2);
    for (const name of ['d.hdd', 'e.hdd']) await vdkit('delete', at(`to/${name}`));
    expect(await readdir(at('to'))).toEqual([]);
  });
});
