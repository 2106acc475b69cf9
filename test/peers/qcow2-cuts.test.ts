/**
 * States left by a power cut of an image whose options or parents change, judged by `qemu-img check`: nothing worse
 * than leaks.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findPeer, PEERS } from '../../scripts/peers.mjs';
import { amendImage, Disk, rebaseImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { crashStates, Random, RecordingProvider } from '../../src/testing/index.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { fill, Place } from '../conformance/place.ts';
import { randomBytes, rounds } from '../conformance/random.ts';
import { describeWithPeers } from './peers.ts';

const UNIT = 1024;
const SIZE = 64 * UNIT;
const FILES = ['/base', '/other', '/own'];
const allow = ['/'];

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(memoryFolder(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

type Run = (provider: StorageProvider) => Promise<unknown>;
type Case = readonly [name: string, made: Readonly<Record<string, string>>, snapshots: number, run: Run];

const amend =
  (values: Readonly<Record<string, string>>): Run =>
  (provider) =>
    amendImage({ provider, name: '/own' }, values, { allow });

const CASES: readonly Case[] = [
  ['wide refcounts', {}, 1, amend({ refcount_bits: '64' })],
  ['narrow refcounts', {}, 0, amend({ refcount_bits: '1' })],
  ['version 2', {}, 0, amend({ compat: '0.10' })],
  ['version 2, snapshots', {}, 2, amend({ compat: '0.10' })],
  ['version 3', { compat: '0.10' }, 2, amend({ compat: '1.1' })],
  [
    'another parent',
    {},
    0,
    (provider) => rebaseImage({ provider, name: '/own' }, { provider, name: '/other' }, { allow }),
  ],
  ['no parent', {}, 0, (provider) => rebaseImage({ provider, name: '/own' }, null, { allow })],
  [
    'a commit',
    {},
    1,
    async (provider) => {
      await using disk = await Disk.open({ provider, name: '/own' }, { mode: 'write', allow, flushAfterMs: 0 });
      await disk.commit({ force: true });
    },
  ],
];

describe('qcow2 after a power cut', () => {
  describeWithPeers(['qemu-img'], 'beside qemu-img', () => {
    it.each(CASES)('%s', async (_name, made, snapshots, run) => {
      const { provider } = await family(made, snapshots);
      const random = new Random(5);
      const recording = new RecordingProvider(provider, { turns: (what) => random.below(what === 'flush' ? 20 : 5) });
      for (const name of FILES) await (await recording.open(name, 'read')).close();
      await run(recording);
      for (const state of crashStates(recording.log, provider, { maxStates: rounds(4, 400) })) {
        for (const name of FILES) {
          await writeFile(join(folder, name), await bytesOf(state.provider, name));
          const { status, text } = await check(join(folder, name));
          expect([0, 3], `${name}: ${text} ${state.describe()}`).toContain(status);
        }
      }
    });
  });
});

async function family(made: Readonly<Record<string, string>>, snapshots: number): Promise<Place> {
  const place = new Place('qcow2', { cluster_size: UNIT, ...made });
  const random = new Random(3);
  const write = async (name: string): Promise<void> => {
    await using disk = await place.open(name);
    for (let n = 0; n < 12; n++) {
      const first = random.below(SIZE / UNIT);
      const length = Math.min(1 + random.below(6), SIZE / UNIT - first) * UNIT;
      if (n % 3 === 2) await disk.zero(first * UNIT, length);
      else await disk.write(first * UNIT, randomBytes(random, length));
    }
  };
  for (const [name, parent] of [
    ['/base', undefined],
    ['/other', undefined],
    ['/own', '/base'],
  ] as const) {
    await place.make(name, SIZE, [fill(0, 4 * UNIT, 1)], parent);
    await write(name);
  }
  for (let n = 0; n < snapshots; n++) {
    {
      await using disk = await place.open('/own');
      await disk.snapshots.create(`s${n}`);
    }
    await write('/own');
  }
  return place;
}

async function bytesOf(provider: StorageProvider, name: string): Promise<Uint8Array> {
  const storage = await provider.open(name, 'read');
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return bytes;
}

function check(file: string): Promise<{ status: number; text: string }> {
  const peer = PEERS.find(({ name }) => name === 'qemu-img');
  const path = peer === undefined ? null : findPeer(peer);
  return new Promise((resolve) => {
    execFile(path ?? 'qemu-img', ['check', '-f', 'qcow2', file], (error, stdout, stderr) => {
      const { code } = error ?? { code: 0 };
      resolve({ status: typeof code === 'number' ? code : -1, text: stdout + stderr });
    });
  });
}
