/** A trial format whose data lies behind a view: VDI with every block exclusive-ored by its place in the file. */
import { expect, it } from 'vitest';
import { alignUp } from '../../src/binary/numbers.ts';
import { raw } from '../../src/formats/raw/index.ts';
import { vdi } from '../../src/formats/vdi/index.ts';
import type { Format, Image, Mapping, WriteSlot } from '../../src/image/contract.ts';
import { Registry } from '../../src/image/registry.ts';
import { isPromise, type MaybePromise, type Storage } from '../../src/storage/contract.ts';
import { readPadded } from '../../src/storage/read-padded.ts';
import { StorageView } from '../../src/storage/view.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';
import { rounds } from '../conformance/random.ts';
import { xorCodec } from '../conformance/views.ts';
import type { Tally } from './outcome.ts';
import type { Shape } from './scenario.ts';
import { describeReport, runSeed, seedsToRun } from './seeds.ts';

const CODEC = xorCodec(512);

/** The image; its mappings and slots name a view of the file. */
function behindView(image: Image): Image {
  const views = new Map<Storage, StorageView>();
  const viewOf = (storage: Storage): StorageView => {
    const view = views.get(storage) ?? new StorageView(storage, { codec: CODEC });
    views.set(storage, view);
    return view;
  };
  const mapped = (mapping: Mapping): Mapping =>
    mapping.kind === 'data' ? { ...mapping, storage: viewOf(mapping.storage) } : mapping;
  // Zeroes have another form there, so fresh room does not read zero.
  const placed = (slot: WriteSlot): WriteSlot => overriding(slot, { storage: viewOf(slot.storage), readsZero: false });
  const { prepareWrite, relocate, resize } = image;
  /** VDI moves blocks by itself when its map grows, and zeroes the rest of the last one: here in the form of the view. */
  const grow = async (...how: Parameters<NonNullable<Image['resize']>>): Promise<void> => {
    const { virtualSize, blockSize } = image.info;
    const before = await places(image);
    await resize?.apply(image, how);
    for (const [guestOffset, place] of await places(image)) {
      const from = before.get(guestOffset);
      if (from === undefined || from.fileOffset === place.fileOffset) continue;
      const bytes = new Uint8Array(place.length);
      await readPadded(place.storage, place.fileOffset, bytes);
      await CODEC.decode(bytes, bytes, from.fileOffset);
      await viewOf(place.storage).write(place.fileOffset, bytes);
    }
    const end = Math.min(how[0], alignUp(virtualSize, blockSize ?? 1));
    if (end <= virtualSize) return;
    const rest = await image.map(virtualSize, end - virtualSize);
    if (rest.kind === 'data') await viewOf(rest.storage).zero(rest.fileOffset, rest.length, { punch: false });
  };
  return overriding(image, {
    ...(resize === undefined ? {} : { resize: grow }),
    map: (guestOffset, length) => after(image.map(guestOffset, length), mapped),
    ...(prepareWrite === undefined
      ? {}
      : { prepareWrite: (guestOffset, length) => after(prepareWrite.call(image, guestOffset, length), placed) }),
    ...(relocate === undefined
      ? {}
      : {
          relocate: (guestOffset) =>
            after(relocate.call(image, guestOffset), (slot) => (slot === null ? null : placed(slot))),
        }),
  });
}

type Placed = Extract<Mapping, { kind: 'data' }>;

/** Place of each unit. */
async function places(image: Image): Promise<Map<number, Placed>> {
  const { virtualSize, blockSize } = image.info;
  const found = new Map<number, Placed>();
  for (let at = 0; at < virtualSize; at += blockSize ?? virtualSize) {
    const mapping = await image.map(at, Math.min(blockSize ?? virtualSize, virtualSize - at));
    if (mapping.kind === 'data') found.set(at, mapping);
  }
  return found;
}

function after<T>(value: MaybePromise<T>, then: (value: T) => T): MaybePromise<T> {
  return isPromise(value) ? value.then(then) : then(value);
}

const [trial] = registryWith([vdi], behindView).formats as [Format];
const registry = new Registry([trial, raw]);
const SUITE = 'test/model/views.test.ts';
const own = { format: trial, variant: [], registry, encoded: true, suite: SUITE };
const SHAPES: readonly Shape[] = [
  { ...own, title: 'default', below: [] },
  { ...own, title: 'diff', below: [trial] },
  { ...own, title: 'diff over a diff', below: [trial, trial] },
  { ...own, title: 'diff over raw', below: [raw] },
];
const SEEDS = seedsToRun(rounds(24, 600));

it('needs nothing of the disk: all it does goes through the view', { timeout: rounds(120_000, 900_000) }, async () => {
  const tally: Tally = new Map();
  for (const seed of SEEDS) {
    const report = await runSeed(seed, SHAPES[seed % SHAPES.length] ?? { ...own, title: 'default', below: [] }, {
      tally,
    });
    if (report !== null) expect.fail(describeReport(report));
  }
  if (SEEDS.length < 40) return;
  const kinds = ['write', 'zero', 'discard', 'resize', 'compact', 'stack', 'merge forward', 'merge backward', 'copy'];
  expect([...tally.keys()]).toEqual(expect.arrayContaining(kinds));
  const operations = [...tally.values()].reduce((sum, count) => sum + count, 0);
  expect(operations).toBeGreaterThan(600);
});
