/** Opens a copy for writing, writes once, and looks whether it reads back and everything else is as it was. */

import { equalBytes } from '../../src/codec/bytes.ts';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { openDisk } from '../../src/operations/open.ts';
import { type Digests, firstChange, readAgain } from './examine-read.ts';
import type { Notes } from './notes.ts';
import type { WatchedProvider } from './watched-provider.ts';

export interface WriteOnce {
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly options: DiskOpenOptions;
  /** Content of the untouched copy; undefined when it does not open. */
  readonly before: Digests | undefined;
}

const LENGTH = 700;

/** One write in the middle of the disk, over the edge of a block where there is one. True when it was made. */
export async function writeOnce({ notes, source, options, before }: WriteOnce): Promise<boolean> {
  const open = { ...options, mode: 'write', flushAfterMs: 0 } as const;
  const disk = await notes.step('write open', () => openDisk(source, open));
  if (disk === undefined) return false;
  const { size } = disk;
  const bytes = Uint8Array.from({ length: Math.min(LENGTH, size) }, (_, index) => ((index * 7) % 251) | 1);
  const offset = Math.min(Math.max(Math.floor(size / 2) - 300, 0), size - bytes.length);
  const written = await notes.step('write', async () => {
    await disk.write(offset, bytes);
    await disk.flush();
    return true;
  });
  await notes.step('write close', () => disk.close());
  if (written !== true) return false;
  if (before !== undefined) await compareWithBefore({ notes, source, options, before, offset, bytes });
  return true;
}

interface Written extends WriteOnce {
  readonly before: Digests;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** Written data reads back, and nothing else has changed. */
async function compareWithBefore({ notes, source, options, before, offset, bytes }: Written): Promise<void> {
  const again = await notes.step('reopen', () => openDisk(source, options));
  if (again === undefined) return notes.finding('the image does not open any more after a write');
  await notes.step('read back', async () => {
    const found = new Uint8Array(bytes.length);
    await again.read(offset, found);
    if (!equalBytes(found, bytes)) notes.finding(`what was written at ${offset} does not read back`);
  });
  if (notes.steps.at(-1) !== 'read back:ok') notes.finding('what was written is refused when it is read');
  const after = await readAgain(again, notes, 'after');
  const changed = firstChange(before, after, [offset, offset + bytes.length]);
  if (changed !== null) notes.finding(`a write at ${offset} changed what is read at ${changed}`);
  await notes.step('after close', () => again.close());
}
