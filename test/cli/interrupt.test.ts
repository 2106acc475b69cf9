/**
 * Every command that can be busy for long hears Ctrl-C while it is, and ends by itself. Each is started on an image that
 * keeps the processor busy for many seconds, mostly with tables that are in memory, where nothing ever waits for a file.
 */
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/table.ts';
import { MAGIC, HEADER as QCOW2, SNAPSHOT } from '../../src/formats/qcow2/layout.ts';
import { SIGNATURE, HEADER as VDI, VERSION_1_1 } from '../../src/formats/vdi/layout.ts';
import { amendImage } from '../../src/operations/amend.ts';
import { createImage } from '../../src/operations/create.ts';
import { openDisk } from '../../src/operations/open.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { buildProgram, type Program, runProgram } from './program.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
/** More than all tables of an image here. */
const TABLES = 128 * MIB;
const LAST_TABLES = 8 * MIB;
const NOTHING = new Uint8Array(MIB);
/** Blocks whose entries are all in a hole of the file, and so lead to one slot. */
const SLOTS = 2 ** 29;

/**
 * Runs inside of the program, on another thread: it interrupts when the program has been at work for so long, however slow
 * the machine is, and says at the end how long that was.
 */
const STIMULUS = `
const { Worker, isMainThread } = require('node:worker_threads');
if (isMainThread) {
  process.on('exit', () => process.stderr.write('worked ' + Math.round(process.cpuUsage().user / 1000) + ' ms\\n'));
  new Worker(\`
    const wait = new Int32Array(new SharedArrayBuffer(4));
    while (process.cpuUsage().user < 350_000) Atomics.wait(wait, 0, 0, 10);
    process.kill(process.pid, 'SIGINT');
  \`, { eval: true }).unref();
}
`;

let program: Program;
let images: string;
let folder: string;

beforeAll(async () => {
  program = await buildProgram();
  images = mkdtempSync(join(memoryFolder(), 'vdkit-busy-'));
  writeFileSync(join(images, 'stimulus.cjs'), STIMULUS);
  await makeImages();
}, 120_000);
afterAll(() => {
  program.remove();
  rmSync(images, { recursive: true, force: true });
});
beforeEach(() => {
  folder = mkdtempSync(join(images, 'run-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function makeImages(): Promise<void> {
  const at = (name: string): string => join(images, name);
  const bytes = new Uint8Array(VDI.size);
  const [mapOffset, blockSize] = [512, 4096];
  const dataOffset = mapOffset + SLOTS * 4;
  const places = { mapOffset, dataOffset, blockSize, blockCount: SLOTS, blocksAllocated: 1, logicalSectorSize: 512 };
  const kind = { signature: SIGNATURE, version: VERSION_1_1, headerSize: 400, type: 1, diskSize: SLOTS * blockSize };
  const uuid = '11111111-2222-4333-8444-555555555555';
  bytes.set(VDI.encode({ ...VDI.decode(bytes), ...places, ...kind, uuid, modificationUuid: uuid }));
  writeFileSync(at('slots.vdi'), bytes);
  truncateSync(at('slots.vdi'), dataOffset + blockSize);
  writeFileSync(at('stacked.qcow2'), stacked());
  const many = { cluster_size: 512, preallocation: 'metadata' };
  await createImage(at('tables.qcow2'), { size: 2 * GIB, format: 'qcow2', config: many });
  await createImage(at('kept.qcow2'), { size: 512 * MIB, format: 'qcow2', config: many });
  {
    await using disk = await openDisk(at('kept.qcow2'), { mode: 'write', flushAfterMs: 0 });
    await disk.snapshots.create('then');
  }
  await createImage(at('child.qcow2'), {
    format: 'qcow2',
    parent: at('tables.qcow2'),
    parentFormat: 'qcow2',
    config: { cluster_size: 512 },
  });
  await createImage(at('base.raw'), { size: 2 * GIB, format: 'raw' });
  copyTables(at('tables.qcow2'), at('full.qcow2'));
  await amendImage(at('full.qcow2'), { backing_file: 'base.raw', backing_fmt: 'raw' });
  await createImage(at('bitmaps.qcow2'), { size: 2 * 2 ** 40, format: 'qcow2' });
  await using disk = await openDisk(at('bitmaps.qcow2'), { mode: 'write', flushAfterMs: 0 });
  for (let number = 0; number < 5; number++) {
    // Every other bit: all of it is data for a finer one.
    await disk.bitmaps.add(`coarse ${number}`, { granularity: 32 * 2 ** number * MIB });
    const step = 64 * 2 ** number * MIB;
    for (let offset = 0; offset < disk.size; offset += step) await disk.zero(offset, 512);
    await disk.bitmaps.disable(`coarse ${number}`);
  }
  await disk.bitmaps.add('fine', { granularity: 512, enabled: false });
}

const PREALLOCATED = ['--option', 'cluster_size=512', '--option', 'preallocation=metadata'];

/** A disk and its snapshots have one L1 table of 32 MiB, each a little less of it, and all entries lead to one L2 table. */
function stacked(): Uint8Array {
  const [cluster, entries, snapshots] = [65_536, 2 ** 22, 31];
  const l1Offset = 4 * cluster;
  const snapshotsOffset = l1Offset + entries * 8;
  const bytes = new Uint8Array(snapshotsOffset + cluster);
  const base = {
    ...QCOW2.decode(bytes),
    magic: MAGIC,
    version: 3,
    clusterBits: 16,
    size: 512,
    l1Offset,
    l1Entries: entries,
  };
  const places = { refcountTableOffset: cluster, refcountTableClusters: 1, snapshotCount: snapshots, snapshotsOffset };
  bytes.set(QCOW2.encode({ ...base, ...places, refcountOrder: 4, headerLength: 112 }));
  const view = new DataView(bytes.buffer);
  for (let index = 0; index < entries; index++) view.setUint32(l1Offset + index * 8 + 4, 3 * cluster);
  for (let index = 0; index < snapshots; index++) {
    const at = snapshotsOffset + index * (SNAPSHOT.size + 16);
    const entry = new Uint8Array(SNAPSHOT.size);
    SNAPSHOT.put(entry, 'l1Offset', l1Offset);
    SNAPSHOT.put(entry, 'l1Entries', entries - 1 - index);
    SNAPSHOT.put(entry, 'extraLength', 16);
    bytes.set(entry, at);
  }
  return bytes;
}

/** Of each command: words, and the images that it works on, which are copied where they change. */
const BUSY: readonly (readonly [command: string, words: readonly string[]])[] = [
  ['convert', ['convert', 'slots.vdi', 'out.raw']],
  ['map', ['map', 'slots.vdi']],
  ['map', ['map', 'slots.vdi', '--json']],
  ['measure', ['measure', 'slots.vdi', '--to', 'qcow2']],
  ['compare', ['compare', 'slots.vdi', 'slots.vdi', '--force-share']],
  ['check', ['check', 'slots.vdi']],
  ['check', ['check', 'stacked.qcow2']],
  ['copy', ['copy', 'slots.vdi', 'other']],
  ['compact', ['compact', 'slots.vdi']],
  ['compact', ['compact', 'tables.qcow2']],
  ['resize', ['resize', 'slots.vdi', '+4K']],
  ['resize', ['resize', 'tables.qcow2', '1M', '--shrink']],
  ['amend', ['amend', 'tables.qcow2', '-o', 'refcount_bits=64']],
  ['snapshot', ['snapshot', 'create', 'tables.qcow2', 'now']],
  ['snapshot', ['snapshot', 'apply', 'kept.qcow2', 'then']],
  ['snapshot', ['snapshot', 'delete', 'kept.qcow2', 'then']],
  ['bitmap', ['bitmap', 'merge', 'bitmaps.qcow2', 'fine', ...Array.from({ length: 5 }, (_, n) => `coarse ${n}`)]],
  ['merge', ['merge', 'child.qcow2', '--from', '0', '--to-image', '1']],
  ['commit', ['commit', 'full.qcow2']],
  ['rebase', ['rebase', 'child.qcow2', '--to', 'none']],
  ['create', ['create', 'new.qcow2', '64G', ...PREALLOCATED]],
  ['set', ['set', 'slots.vdi', '--comment', 'x']],
];

/** Parents of other images. */
const PARENTS: readonly string[] = ['tables.qcow2', 'base.raw'];

/** Commands that look at a header or at names, and are done. */
const SHORT = ['info', 'rename', 'delete', 'formats', 'filters', 'cache', 'completion'];

describe('Ctrl-C', () => {
  it('is tried with every command that can take long', () => {
    const known = new Set([...BUSY.map(([command]) => command), ...SHORT]);
    expect(COMMANDS.map(({ name }) => name).filter((name) => !known.has(name))).toEqual([]);
  });

  it.each(BUSY)('ends %s: %j', { timeout: 120_000 }, async (_, words) => {
    mkdirSync(join(folder, 'other'));
    const used = readdirSync(images).filter((name) => words.includes(name) || PARENTS.includes(name));
    for (const name of used) copyTables(join(images, name), join(folder, name));
    const outcome = await interrupted(words);
    expect(outcome).toMatchObject({ status: 130, signal: null });
    if (!words.includes('--json')) expect(outcome.stderr).toMatch(/^cancelled; /m);
    const worked = Number(/^worked (\d+) ms$/m.exec(outcome.stderr)?.[1]);
    expect(worked).toBeLessThan(2700);
  });
});

/** Copies a file whose tables are at its start and at its end, and the rest of it a hole. */
function copyTables(from: string, to: string): void {
  const { size } = statSync(from);
  const source = openSync(from, 'r');
  const target = openSync(to, 'w');
  const piece = new Uint8Array(MIB);
  const copy = (start: number, end: number): void => {
    for (let at = start; at < end; at += MIB) {
      const bytes = piece.subarray(0, Math.min(MIB, end - at));
      readSync(source, bytes, 0, bytes.length, at);
      // What is a hole stays one.
      if (Buffer.compare(bytes, NOTHING.subarray(0, bytes.length)) !== 0) writeSync(target, bytes, 0, bytes.length, at);
    }
  };
  copy(0, Math.min(size, TABLES));
  if (size > TABLES) copy(Math.max(size - LAST_TABLES, TABLES), size);
  ftruncateSync(target, size);
  closeSync(source);
  closeSync(target);
}

/** Runs a command that is interrupted while it works. What never ends is killed. */
async function interrupted(words: readonly string[]) {
  const environment = { ...process.env, NODE_OPTIONS: `--require ${join(images, 'stimulus.cjs')}` };
  let deadline: ReturnType<typeof setTimeout> | undefined;
  try {
    return await runProgram(program, words, {
      cwd: folder,
      environment,
      discardStdout: true,
      onStart: (child) => {
        deadline = setTimeout(() => child.kill('SIGKILL'), 60_000);
      },
    });
  } finally {
    clearTimeout(deadline);
  }
}
