/**
 * VHDX files whose log was left behind: the power is cut after every write to the log of a session. vdkit replays it, in
 * memory and on disk; `qemu-img check -r all` replays it on a copy.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { NULL_GUID } from '../../src/binary/guid.ts';
import { findHeaders } from '../../src/formats/vhdx/headers.ts';
import { MIB, PAGE } from '../../src/formats/vhdx/layout.ts';
import { decodeEntry, entryHeader, type LogEntry } from '../../src/formats/vhdx/log-entry.ts';
import { checkImage } from '../../src/operations/check.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { Storage, StorageProvider } from '../../src/storage/contract.ts';
import { type CrashRun, completeState, crashStates, recordCrashRun } from '../../src/testing/index.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { oneIn, rounds } from '../conformance/random.ts';
import { traffic, type Workload } from '../faults/workloads.ts';
import { BLOCK, IMAGE, type Kind, vhdxSuite } from '../formats/vhdx/crash-images.ts';
import { compacted } from '../formats/vhdx/workloads.ts';
import { fileBytes } from '../model/extents.ts';
import { requirePeer } from './peers.ts';

/** The first version whose replay is sound. */
const SOUND_QEMU = 8;
const WORK: readonly Workload[] = [traffic(40, { flushes: 0.5, discards: 0.2, unit: BLOCK }), compacted];
/** States of the medium at each cut. */
const STATES = rounds(2, 60);
/** "loge": an entry of a log. */
const ENTRY = [0x6c, 0x6f, 0x67, 0x65];
const WRITE: OpenOptions = { format: 'vhdx', allow: ['same-directory'], mode: 'write', flushAfterMs: 0 };

type OpenOptions = NonNullable<Parameters<typeof openDisk>[1]>;

const recorded = (kind: Kind): Promise<CrashRun> => recordCrashRun(vhdxSuite(kind, 31, WORK));

/** Positions just behind the writes to the log. */
function logCuts({ log }: Pick<CrashRun, 'log'>): number[] {
  return log.operations.flatMap((operation) => {
    const isEntry = operation.kind === 'write' && ENTRY.every((byte, at) => operation.bytes[at] === byte);
    return isEntry ? [operation.endedAt + 1] : [];
  });
}

const imageIn = (provider: StorageProvider) => ({ provider, name: IMAGE });
const bytesIn = async (provider: StorageProvider) => Buffer.from(await fileBytes(imageIn(provider)));

/** True if there is an image, and its log is not empty. */
async function isDirty(provider: StorageProvider): Promise<boolean> {
  if ((await provider.lookUp(IMAGE)) === null) return false;
  const storage = await provider.open(IMAGE, 'read');
  const { header } = await findHeaders(storage);
  await storage.close();
  return header.logGuid !== NULL_GUID;
}

async function contentOf(provider: StorageProvider, options: OpenOptions): Promise<Buffer> {
  await using disk = await openDisk(imageIn(provider), options);
  const bytes = Buffer.alloc(disk.size);
  await disk.read(0, bytes);
  return bytes;
}

/** Replays the log of an image both ways. Returns the content, and true if a replay changes more than headers. */
async function replayed(provider: StorageProvider): Promise<{ readonly content: Buffer; readonly changes: boolean }> {
  const before = await bytesIn(provider);
  const content = await contentOf(provider, { ...WRITE, mode: 'read' });
  expect((await bytesIn(provider)).equals(before)).toBe(true);
  expect((await contentOf(provider, WRITE)).equals(content)).toBe(true);
  expect(await isDirty(provider)).toBe(false);
  const { findings } = await checkImage(imageIn(provider), { format: 'vhdx' });
  expect(findings.filter(({ severity }) => severity === 'corruption')).toEqual([]);
  const after = await bytesIn(provider);
  return { content, changes: !after.subarray(MIB).equals(before.subarray(MIB)) };
}

const QEMU = await versionOfQemu();

describe('vhdx', () => {
  it.each<Kind>(['dynamic', 'diff'])('replays a log that was cut at any of its writes (%s)', async (kind) => {
    const run = await recorded(kind);
    const cuts = oneIn(rounds(2, 1), logCuts(run));
    let [dirty, changed] = [0, 0];
    for (const cut of cuts) {
      const allowed = run.model.at(cut);
      let visited = 0;
      for (const state of crashStates(run.log, run.suite.provider, { cuts: [cut, cut], maxStates: STATES })) {
        if (visited++ === STATES) break;
        if (!(await isDirty(state.provider))) continue;
        const { content, changes } = await replayed(state.provider);
        expect(allowed.verify(content, 1), state.describe()).toEqual([]);
        dirty++;
        if (changes) changed++;
      }
    }
    console.log(`vhdx, ${kind}: ${cuts.length} writes of the log, ${dirty} files with a log, ${changed} changed by it`);
    expect(cuts.length).toBeGreaterThanOrEqual(rounds(8, 15));
    expect(dirty).toBeGreaterThanOrEqual(14);
    expect(changed).toBeGreaterThanOrEqual(5);
  });

  it('leaves no entry that must not be replayed, for programs that look at no tail', async () => {
    const { log, suite } = await recorded('dynamic');
    let [dirty, older] = [0, 0];
    for (const cut of logCuts({ log })) {
      const provider = completeState(log, suite.provider, cut);
      if (!(await isDirty(provider))) continue;
      dirty++;
      const content = await contentOf(provider, { ...WRITE, mode: 'read' });
      const storage = await provider.open(IMAGE, 'write');
      const entries = await entriesIn(storage);
      for (const { flushedSize, changes } of entries) {
        expect(flushedSize).toBeLessThanOrEqual(BigInt(storage.size));
        for (const { fileOffset, bytes } of changes) if (bytes !== null) await storage.write(Number(fileOffset), bytes);
      }
      older += entries.length - 1;
      await storage.close();
      expect((await contentOf(provider, WRITE)).equals(content)).toBe(true);
    }
    expect(dirty).toBeGreaterThanOrEqual(15);
    expect(older).toBeGreaterThanOrEqual(20);
  });

  describeQemu(QEMU, (run) => {
    it('replays it as vdkit does', async () => {
      const recording = await recorded('dynamic');
      const folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
      const [copy, raw] = [join(folder, 'copy.vhdx'), join(folder, 'raw')];
      let dirty = 0;
      try {
        for (const cut of logCuts(recording)) {
          const provider = completeState(recording.log, recording.suite.provider, cut);
          if (!(await isDirty(provider))) continue;
          dirty++;
          await writeFile(copy, await bytesIn(provider));
          await writeFile(raw, await contentOf(provider, { ...WRITE, mode: 'read' }));
          await run('check', '-q', '-f', 'vhdx', '-r', 'all', copy);
          await run('compare', '-q', '-f', 'vhdx', '-F', 'raw', copy, raw);
        }
      } finally {
        await rm(folder, { recursive: true });
      }
      expect(dirty).toBeGreaterThanOrEqual(15);
    });
  });
});

/** All entries of the log that the headers name, the oldest first. */
async function entriesIn(storage: Storage): Promise<readonly LogEntry[]> {
  const { header, log } = await findHeaders(storage);
  const ring = new Uint8Array(2 * log.length);
  await storage.read(log.fileOffset, ring.subarray(0, log.length));
  ring.copyWithin(log.length, 0, log.length);
  const entries = Array.from({ length: log.length / PAGE }, (_, page) => {
    const own = entryHeader(ring.subarray(page * PAGE), header.logGuid, log.length);
    return own === null ? null : decodeEntry(ring.slice(page * PAGE, page * PAGE + own.length), own);
  });
  return entries.filter((one) => one !== null).sort((one, other) => Number(one.sequence - other.sequence));
}

/** The first number of its version; null: it is not installed. */
async function versionOfQemu(): Promise<number | null> {
  const qemuImg = requirePeer('qemu-img');
  if (typeof qemuImg === 'string') return null;
  return Number(/version (\d+)/.exec(await qemuImg.run('--version'))?.[1]);
}

/** Tests with `qemu-img`, skipped in sight where it is too old: it can damage an image then. */
function describeQemu(version: number | null, body: (run: (...args: string[]) => Promise<string>) => void): void {
  const qemuImg = requirePeer('qemu-img');
  if (typeof qemuImg !== 'string' && version !== null && version >= SOUND_QEMU) {
    describe('qemu-img', () => body((...args) => qemuImg.run(...args)));
    return;
  }
  describe.skip(`qemu-img (skipped: version ${version ?? 'none'}, and not ${SOUND_QEMU} or later)`, () => {
    it('needs a newer qemu-img', () => {});
  });
}
