/**
 * Extents that lie over each other in one file, or over the descriptor: a write to one would change the other, and two
 * sparse extents in one file would give the same room to different grains. Files are told apart by their identity,
 * since one file has many names.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { EXTENT_TYPES, type ExtentLine } from './descriptor/extents.ts';
import { KEYS } from './descriptor/facts.ts';
import type { MainFile } from './open.ts';

/** Bytes of a file that an extent, or the descriptor, takes. */
interface Taken {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  /** Of the extent, from 1 on; 0: the descriptor. */
  readonly number: number;
  readonly isWritten: boolean;
}

/** Extents of an image. */
export interface PlacedExtents {
  readonly main: MainFile;
  readonly lines: readonly ExtentLine[];
  /** File of an extent; null: it has none, or it was not opened. */
  storageOf(line: ExtentLine, index: number): Storage | null;
}

/** Throws `corrupt` if an extent is also named as the parent, which a write to the image would change. */
export function refuseParentAsExtent({ descriptor, storage }: MainFile, lines: readonly ExtentLine[]): void {
  const hint = descriptor?.text.value(KEYS.parentHint) ?? null;
  const index = hint === null ? -1 : lines.findIndex(({ file }) => file !== null && plain(file) === plain(hint));
  if (index === -1) return;
  throw new ImageError('corrupt', 'The descriptor names its parent as an extent, too', {
    path: storage.label,
    field: `extent ${index + 1}`,
    found: hint ?? '',
    expected: 'a file of the image',
  });
}

function plain(name: string): string {
  return name.replaceAll('\\', '/').replace(/^(\.\/+)+/, '');
}

/** Throws `corrupt` if an extent overlaps the descriptor, or another extent where either may be written. */
export async function refuseOverlaps(placed: PlacedExtents): Promise<void> {
  const overlap = await findOverlap(placed);
  if (overlap === null) return;
  throw new ImageError('corrupt', 'The extents of the image overlap', {
    path: placed.main.storage.label,
    field: `extent ${overlap.number}`,
    found: overlap.found,
    expected: 'room that nothing else takes',
    hint: 'Correct the extent lines of the descriptor, if you know what they should be.',
  });
}

/** An extent that overlaps something. */
export interface Overlap {
  readonly number: number;
  /** A sentence fragment: `it overlaps extent 3`. */
  readonly found: string;
}

/** The first overlap. */
export async function findOverlap(placed: PlacedExtents): Promise<Overlap | null> {
  const taken = await placesOf(placed);
  taken.sort((one, other) => (one.key === other.key ? one.start - other.start : one.key < other.key ? -1 : 1));
  let longest: Taken | null = null;
  for (const one of taken) {
    const isSame = longest !== null && longest.key === one.key;
    if (longest !== null && isSame && one.start < longest.end && (one.isWritten || longest.isWritten))
      return overlapOf(longest, one);
    if (!isSame || longest === null || one.end > longest.end) longest = one;
  }
  return null;
}

async function placesOf({ main, lines, storageOf }: PlacedExtents): Promise<Taken[]> {
  const keys = new Map<Storage, string>();
  const keyOf = async (storage: Storage): Promise<string> => {
    const key = keys.get(storage) ?? (await storage.identity()).key;
    keys.set(storage, key);
    return key;
  };
  const taken: Taken[] = [];
  const whole = { start: 0, end: Number.POSITIVE_INFINITY };
  if (main.layout === null) taken.push({ key: await keyOf(main.storage), ...whole, number: 0, isWritten: true });
  for (const [index, line] of lines.entries()) {
    const storage = storageOf(line, index);
    if (storage === null) continue;
    const start = line.offset * SECTOR;
    const isFlat = EXTENT_TYPES[line.type] === 'flat';
    const place = isFlat ? { start, end: start + line.sectors * SECTOR } : whole;
    taken.push({ key: await keyOf(storage), ...place, number: index + 1, isWritten: line.access === 'RW' });
  }
  return taken;
}

function overlapOf(one: Taken, other: Taken): Overlap {
  const [first, second] = one.number < other.number ? [one, other] : [other, one];
  const found =
    first.number === 0 ? 'it lies in the file of the descriptor' : `it overlaps extent ${first.number} in one file`;
  return { number: second.number, found };
}
