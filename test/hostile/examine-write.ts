/** Opens a copy for writing, writes once, and looks whether it reads back and everything else is as it was. */
import { openDisk } from '../../src/disk/open.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { equalBytes } from '../../src/codec/bytes.ts';
import { type Digests, readThrough } from './examine-read.ts';
import type { Notes } from './notes.ts';
import type { WatchedProvider } from './watched-provider.ts';

export interface WriteOnce {
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly options: DiskOpenOptions;
  /** What the untouched copy reads; undefined when it does not open. */
  readonly before: Digests | undefined;
}

const LENGTH = 700;
const EXPECT_NOTHING = { opens: false, unchanged: [], sameSize: false } as const;

/** One write in the middle of the disk, over the edge of a block where there is one. */
export async function writeOnce({ notes, source, options, before }: WriteOnce): Promise<void> {
  const open = { ...options, mode: 'write', flushAfterMs: 0 } as const;
  const disk = await notes.step('write open', () => openDisk(source, open));
  if (disk === undefined) return;
  const { size } = disk;
  const bytes = Uint8Array.from({ length: Math.min(LENGTH, size) }, (_, index) => (index * 7) % 251 | 1);
  const offset = Math.min(Math.max(Math.floor(size / 2) - 300, 0), size - bytes.length);
  const written = await notes.step('write', async () => {
    await disk.write(offset, bytes);
    await disk.flush();
    return true;
  });
  await notes.step('write close', () => disk.close());
  if (written !== true || before === undefined) return;
  const again = await notes.step('reopen', () => openDisk(source, options));
  if (again === undefined) return notes.finding('the image does not open any more after a write');
  await notes.step('read back', async () => {
    const found = new Uint8Array(bytes.length);
    await again.read(offset, found);
    if (!equalBytes(found, bytes)) notes.finding(`what was written at ${offset} does not read back`);
  });
  if (notes.steps.at(-1) !== 'read back:ok') notes.finding('what was written is refused when it is read');
  const after = await readThrough({
    disk: again,
    notes,
    title: 'after',
    content: null,
    expect: EXPECT_NOTHING,
    mustRead: false,
  });
  compareDigests(notes, before, after, [offset, offset + bytes.length]);
  await notes.step('after close', () => again.close());
}

/** Pieces that the write does not touch must read as before; one that was refused may be there now. */
function compareDigests(notes: Notes, before: Digests, after: Digests, [start, end]: readonly [number, number]): void {
  const starts = [...before.keys()];
  for (const [index, piece] of starts.entries()) {
    const now = after.get(piece);
    const was = before.get(piece);
    const next = starts[index + 1] ?? Number.POSITIVE_INFINITY;
    if (now === undefined || was === undefined || was.startsWith('!')) continue;
    if (piece < end && next > start) continue;
    if (now !== was) notes.finding(`a write at ${start} changed what is read at ${piece}`);
  }
}

