/** Changes of the whole image, on a copy: compacting, growing, discarding. What the guest has must stay. */
import { SECTOR } from '../../src/binary/numbers.ts';
import { isZero } from '../../src/codec/bytes.ts';
import type { ChainDisk } from '../../src/disk/disk.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { amendImage } from '../../src/operations/amend.ts';
import { openDisk } from '../../src/operations/open.ts';
import { type Digests, firstChange, readAgain } from './examine-read.ts';
import type { Notes } from './notes.ts';
import type { WatchedProvider } from './watched-provider.ts';

export interface ChangeAll {
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly options: DiskOpenOptions;
  /** Content of the untouched copy. */
  readonly before: Digests;
}

/** Enough to make most maps too short. */
const MORE_BLOCKS = 300;

/** Compacts, grows, discards a part; reads after each. True when the image could be opened for that. */
export async function changeAll({ notes, source, options, before }: ChangeAll): Promise<boolean> {
  const disk = await notes.step('change open', () => openDisk(source, { ...options, mode: 'write', flushAfterMs: 0 }));
  if (disk === undefined) return false;
  const { size } = disk;
  const compare = async (what: string, skip?: readonly [number, number]): Promise<void> => {
    const changed = firstChange(before, await readAgain(disk, notes, what), skip);
    if (changed !== null) notes.finding(`${what} changed what is read at ${changed}`);
  };
  await notes.step('compact', () => disk.compact());
  await compare('compacting');
  // The last piece of the disk is longer afterwards.
  const last: [number, number] = [Math.max(...before.keys(), 0), Number.POSITIVE_INFINITY];
  await notes.step('grow', () => disk.resize(grownSize(disk)));
  if (notes.steps.at(-1) === 'grow:ok') {
    await compare('growing', last);
    await notes.step('read new part', async () => {
      const bytes = new Uint8Array(SECTOR);
      await disk.read(size, bytes);
      if (!isZero(bytes)) notes.finding('what was added to the disk does not read zero');
    });
  }
  const middle = Math.floor(size / 2);
  const range = { offset: middle, length: Math.min(size - middle, disk.blockSize + SECTOR) };
  await notes.step('discard', () => disk.discard([range]));
  await compare('discarding', [range.offset, Number.POSITIVE_INFINITY]);
  await notes.step('change close', () => disk.close());
  if (disk.images.at(-1)?.format === 'qcow2') await amend({ notes, source, options });
  return true;
}

/** Wide refcounts, then a version with narrow ones. Refused or not, what is read stays. */
async function amend({ notes, source, options }: Omit<ChangeAll, 'before'>): Promise<void> {
  const read = async (what: string): Promise<Digests | undefined> => {
    const disk = await notes.step(`${what} open`, () => openDisk(source, options));
    if (disk === undefined) return undefined;
    const digests = await readAgain(disk, notes, what);
    await notes.step(`${what} close`, () => disk.close());
    return digests;
  };
  // Only now is what was discarded in part gone.
  const before = await read('before amending');
  if (before === undefined) return;
  const { format, allow } = options;
  const how = { ...(format === undefined ? {} : { format }), ...(allow === undefined ? {} : { allow }) };
  for (const values of [{ refcount_bits: 64 }, { compat: '0.10', refcount_bits: 16 }]) {
    await notes.step('amend', () => amendImage(source, values, how));
  }
  const after = await read('amended');
  if (after === undefined) return notes.finding('the image does not open any more after amending');
  const changed = firstChange(before, after);
  if (changed !== null) notes.finding(`amending changed what is read at ${changed}`);
}

function grownSize(disk: ChainDisk): number {
  const more = MORE_BLOCKS * Math.max(disk.images.at(-1)?.info.blockSize ?? 0, SECTOR);
  return Math.min(disk.size + more, Number.MAX_SAFE_INTEGER + 1 - SECTOR);
}
