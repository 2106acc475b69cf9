/** Images that are put together by hand for the test suites: other programs read the same in them, as the kits tell. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { KITS } from '../conformance/kits.ts';
import type { PeerKit } from '../formats/kit.ts';
import { expectedContent } from '../golden/content.ts';
import type { Sample } from '../hostile/descriptor.ts';
import { describeWithPeers, type PeerProgram } from './peers.ts';

/** Content is compared up to here. */
const MOST = 64 * 1024 * 1024;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

const ALL = await Promise.all(
  KITS.map(async ({ format, hostile, peers = [] }) => ({
    format,
    peers,
    samples: 'without' in hostile ? [] : await hostile.samples(),
  })),
);

describe.each(ALL.filter(({ peers }) => peers.length > 0))('$format', ({ peers, samples }) => {
  for (const peer of peers) {
    describeWithPeers([peer.program], `read by ${peer.program}`, (program) => {
      it.each(samples.filter((sample) => peer.reads(sample)))('$name', async (sample) => {
        for (const file of [{ name: 'image', bytes: sample.bytes }, ...sample.beside]) {
          await writeFile(at(file.name), file.bytes);
        }
        if (peer.checks) await expectSound(program, peer);
        await expectContent(program, peer, sample);
      });
    });
  }
});

async function expectSound(program: PeerProgram, { format }: PeerKit): Promise<void> {
  const report = JSON.parse(await program.run('check', '--output=json', '-f', format, at('image')));
  expect(report).toMatchObject({ 'check-errors': 0 });
  expect(report).not.toHaveProperty('corruptions');
  expect(report).not.toHaveProperty('leaks');
}

async function expectContent(program: PeerProgram, { format }: PeerKit, sample: Sample): Promise<void> {
  const info = JSON.parse(await program.run('info', '--output=json', '-f', format, at('image')));
  expect(info['virtual-size']).toBe(sample.virtualSize);
  if (sample.virtualSize > MOST) return;
  await program.run('convert', '-f', format, '-O', 'raw', at('image'), at('image.raw'));
  const { content, virtualSize } = sample;
  const wanted = content instanceof Uint8Array ? content : expectedContent(content, 0, virtualSize);
  expect(Buffer.compare(await readFile(at('image.raw')), wanted)).toBe(0);
}
