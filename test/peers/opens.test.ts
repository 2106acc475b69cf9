/**
 * Number of times that each command opens the files of an image, counted by system calls. Each file is opened once: the
 * handle that was checked and locked is the one used. Where a second handle is needed, the reason is next to the
 * number.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildProgram, type Program } from '../cli/program.ts';
import { runCli } from '../cli/run-cli.ts';
import { describeWithPeers } from './peers.ts';

/** Opens of each file by name; files that are not listed are not looked at. */
type Opens = Readonly<Record<string, number>>;

/** Lines of a log in which calls that others interrupted are put together again. */
function wholeCalls(log: string): string[] {
  const begun = new Map<string, string>();
  return log.split('\n').map((line) => {
    const [, thread = '', call = ''] = /^(\d+) +(.*)$/.exec(line) ?? [];
    const start = /^(.*) <unfinished \.\.\.>$/.exec(call)?.[1];
    if (start !== undefined) begun.set(thread, start);
    const rest = /^<\.\.\. \w+ resumed>(.*)$/.exec(call)?.[1];
    return rest === undefined ? line : `${thread} ${begun.get(thread) ?? ''}${rest}`;
  });
}

describeWithPeers(['strace'], 'commands open each file once', (strace) => {
  let program: Program;
  let folder: string;
  beforeAll(async () => {
    program = await buildProgram();
    folder = await mkdtemp(join(tmpdir(), 'vdkit-opens-'));
  });
  afterAll(async () => {
    program.remove();
    await rm(folder, { recursive: true, force: true });
  });

  const at = (name: string): string => join(folder, name);

  async function make(...words: string[]): Promise<void> {
    const { status, stderr } = await runCli(words);
    expect(status, stderr).toBe(0);
  }

  /** Runs vdkit and counts the calls that opened something of each name. */
  async function opensOf(words: readonly string[]): Promise<Map<string, number>> {
    const log = at('calls.log');
    const calls = 'trace=open,openat,openat2';
    await strace.run('-f', '-qqq', '-s', '4096', '-o', log, '-e', calls, process.execPath, program.path, ...words);
    const counts = new Map<string, number>();
    for (const line of wholeCalls(await readFile(log, 'utf8'))) {
      const name = /open(?:at2?)?\((?:AT_FDCWD, )?"([^"]*)"[^)]*\) += \d/.exec(line)?.[1];
      if (name?.startsWith(folder) !== true) continue;
      counts.set(basename(name), (counts.get(basename(name)) ?? 0) + 1);
    }
    return counts;
  }

  async function expectOpens(words: readonly string[], expected: Opens): Promise<void> {
    const counts = await opensOf(words);
    const found = Object.fromEntries(Object.keys(expected).map((name) => [name, counts.get(name) ?? 0]));
    expect(found).toEqual(expected);
  }

  describe.each(['vdi', 'qcow2'])('%s', (format) => {
    const name = `disk.${format}`;
    const child = `child.${format}`;
    // A child that knows its parent by UUID: the headers of all files beside it are looked at, without a lock, before
    // one of them is opened. Only as many handles as there are images are ever held.
    const found = format === 'vdi' ? 2 : 1;

    beforeEach(async () => {
      for (const file of [name, child, 'out.vdi', 'new.qcow2']) await rm(at(file), { force: true });
      await make('create', at(name), '64M');
      await make('create', at(child), '--parent', at(name));
    });

    it('one image', async () => {
      await expectOpens(['info', at(name)], { [name]: 1 });
      await expectOpens(['check', at(name)], { [name]: 1 });
      await expectOpens(['map', at(name)], { [name]: 1 });
      await expectOpens(['convert', at(name), at('out.vdi')], { [name]: 1 });
      await expectOpens(['compare', at(name), at('out.vdi')], { [name]: 1, 'out.vdi': 1 });
      await expectOpens(['resize', at(name), '+1M'], { [name]: 1 });
    });

    it('the parent of a new image', async () => {
      await expectOpens(['create', at('new.qcow2'), '--parent', at(name)], { [name]: 1 });
      // Once as the parent of the new image; the others belong to the chain of the source.
      await expectOpens(['convert', at(child), at('out.vdi'), '--to', 'vdi', '--parent', at(name)], {
        [name]: found + 1,
      });
    });

    it('a chain', async () => {
      await expectOpens(['info', at(child)], { [child]: 1, [name]: 1 });
      // The parent is looked at if the child stores its identity.
      await expectOpens(['check', at(child)], { [child]: 1, [name]: format === 'vdi' ? found : 0 });
      await expectOpens(['map', at(child)], { [child]: 1, [name]: found });
      await expectOpens(['convert', at(child), at('out.vdi')], { [child]: 1, [name]: found });
      // Once for each of the two disks.
      await expectOpens(['compare', at(child), at(name)], { [child]: 1, [name]: found + 1 });
      await expectOpens(['resize', at(child), '+1M'], { [child]: 1, [name]: found });
      await expectOpens(['info', '--backing-chain', at(child)], { [child]: 1, [name]: 1 });
    });
  });

  it('a list of snapshots', async () => {
    await make('create', at('snapshots.qcow2'), '64M');
    await make('snapshot', 'create', at('snapshots.qcow2'), 'first');
    await expectOpens(['snapshot', 'list', at('snapshots.qcow2')], { 'snapshots.qcow2': 1 });
  });
});
