/** The promises of images that are written once, when they are made, each with the work that shows it. */
import { expectBytes, expectEqual, expectExtents, expectFailure, readAll } from './conformance-bench.ts';
import { expectReport, type Promised, promise } from './conformance-cases.ts';
import { Random } from './random.ts';
import { randomBytes } from './random-bytes.ts';

const MIB = 1024 * 1024;

/** All of them. */
export const ONCE_PROMISES: readonly Promised[] = [
  promise('makes an image that reads as nothing', async (bench) => {
    await bench.make(bench.image);
    const disk = await bench.open(bench.image);
    expectEqual(disk.size, bench.size, 'size of the disk');
    expectBytes(await readAll(disk), bench.initial);
    await expectExtents(disk);
    await disk.close();
    await expectReport(bench);
  }),

  promise('holds what was converted into it, also the end of the disk', async (bench) => {
    const content = new Uint8Array(bench.size);
    content.set(randomBytes(new Random(5), 2 * MIB + 700), MIB / 2);
    content.set(randomBytes(new Random(6), 900), bench.size - 900);
    await bench.convert(content);
    const disk = await bench.open(bench.image);
    expectBytes(await readAll(disk), content);
    await expectExtents(disk);
    const piece = new Uint8Array(70_000);
    await disk.read(MIB - 5, piece);
    expectBytes(piece, content.subarray(MIB - 5, MIB - 5 + piece.length));
  }),

  promise('refuses changes once it is made', async (bench) => {
    await bench.convert(randomBytes(new Random(7), MIB));
    await expectFailure(() => bench.open(bench.image, { mode: 'write' }), 'read-only', 'unsupported');
    const disk = await bench.open(bench.image);
    await expectFailure(() => disk.write(0, new Uint8Array(512)), 'read-only');
    await expectFailure(() => disk.zero(0, 512), 'read-only');
  }),
];
