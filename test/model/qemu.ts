/** QEMU's verdict on an image left by a run: neither errors nor leaks, the same bytes, the same map. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { equalBytes, isZero } from '../../src/codec/bytes.ts';
import type { Extent } from '../../src/disk/device.ts';
import type { Disk } from '../../src/index.ts';
import { openDisk } from '../../src/operations/open.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import type { PeerProgram } from '../peers/peers.ts';
import { peerRuns, type QemuRun } from '../peers/qemu.ts';
import { expectSameMap } from '../peers/same-map.ts';
import { fits } from './content.ts';
import { fileBytes } from './extents.ts';
import { Mismatch } from './mismatch.ts';
import type { ClosedImage } from './outcome.ts';

/** Runs `qemu-img`. Throws a {@link Mismatch} when that fails. */
export type RunQemu = (...args: string[]) => Promise<string>;

/** Looks at an image whose files were written into a folder. Throws a {@link Mismatch}. */
export type Inspector = (run: RunQemu, folder: string, image: ClosedImage) => Promise<void>;

/** Writes the files into a folder for that, and removes it again. */
export function inspectWithQemu(qemuImg: PeerProgram, inspect: Inspector) {
  const run: RunQemu = (...args) =>
    qemuImg.run(...args).catch((error: Error) => {
      throw new Mismatch(`QEMU does not take the image: ${error.message}`);
    });
  return async (image: ClosedImage): Promise<void> => {
    const { provider, name } = image;
    const folder = await mkdtemp(join(memoryFolder(), 'vdkit-model-'));
    try {
      for await (const file of provider.list(provider.directory(name))) {
        await writeFile(join(folder, basename(file)), await fileBytes({ provider, name: file }));
      }
      await inspect(run, folder, image);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
}

/** An image to inspect. */
export interface Inspected {
  readonly folder: string;
  readonly format: string;
  readonly image: ClosedImage;
  /** QEMU reads disks longer, up to a whole unit: maps are compared up to the end of the shortest image of a chain. */
  readonly rounds?: boolean;
  /** Only the content is compared: QEMU neither checks the format nor tells zeroes from what is not stored. */
  readonly contentOnly?: boolean;
  /** Room that nothing uses may stay in the file, which QEMU calls a leak: it does not check the image. */
  readonly leaks?: boolean;
}

/** The image that these words open is sound, and has the content and the map. */
export async function inspectDisk(
  run: RunQemu,
  opened: readonly string[],
  { folder, format, image, rounds = false, contentOnly = false, leaks = false }: Inspected,
): Promise<void> {
  if (!contentOnly && !leaks) await run('check', '-q', ...opened);
  const raw = join(folder, 'read.raw');
  await run('convert', '-O', 'raw', ...opened, raw);
  const found = new Uint8Array(await readFile(raw));
  const { content } = image;
  const { length } = content.bytes;
  fits(found.subarray(0, length), content, 0, 'QEMU');
  if (!rounds && found.length > length) throw new Mismatch(`QEMU reads ${found.length} bytes instead of ${length}`);
  if (contentOnly && found.length === length) return;
  await using disk = await openDisk(join(folder, basename(image.name)), { format, allow: ['same-directory'] });
  const behind = found.subarray(length);
  // A unit that is not stored shows the parent up to its end, and so does QEMU.
  const shown = isZero(behind) ? behind : await parentBehind(disk, behind.length);
  if (!equalBytes(behind, shown)) throw new Mismatch(`QEMU reads data behind the ${length} bytes of the disk`);
  const ours: Extent[] = [];
  for await (const extent of disk.extents()) ours.push(extent);
  try {
    const theirs: readonly QemuRun[] = JSON.parse(await run('map', '--output=json', ...opened));
    const end = rounds ? Math.min(...disk.images.map(({ info }) => info.virtualSize)) : length;
    expectSameMap(
      ours.flatMap((run) => upTo(end, run, run.offset)),
      peerRuns(
        theirs.flatMap((run) => upTo(end, run, run.start)),
        { backing: true },
      ),
    );
  } catch (error) {
    throw error instanceof Mismatch ? error : new Mismatch(`QEMU maps it differently: ${String(error).slice(0, 600)}`);
  }
}

/** Bytes that the images below the last one hold behind its end; zeroes where they end. */
async function parentBehind(disk: Disk, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const parent = disk.images.at(-2);
  if (parent === undefined) return bytes;
  const { format } = parent;
  await using below = await openDisk(parent.name, { format, allow: ['same-directory'], lock: false });
  const end = Math.min(disk.size + length, below.size);
  if (end > disk.size) await below.read(disk.size, bytes.subarray(0, end - disk.size));
  return bytes;
}

/** The part of a run before an offset. */
function upTo<R extends { readonly length: number }>(end: number, run: R, start: number): R[] {
  return start < end ? [{ ...run, length: Math.min(run.length, end - start) }] : [];
}
