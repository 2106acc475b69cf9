/**
 * The record of a merge beside the last image of its chain, from just before links change until the last file is gone.
 * With it an interrupted merge can be repeated with the same arguments: they refer to a chain that is shorter now, and
 * files of merged images may be left that nothing refers to any more.
 *
 * A stranger who hands out an image could put a record beside it. So a file is deleted only if it is in the directory
 * of an image of the chain, is the merged file by its file system identity, no program has it open, and no image in its
 * directory depends on it.
 */
import { isImageError, printable } from '../../errors.ts';
import { LIMITS } from '../../limits.ts';
import { companionName } from '../../storage/companion.ts';
import type { Source, StorageProvider } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import type { Chain } from '../path/chain.ts';
import { type ChainServices, removableParts, removeFiles } from './stack.ts';

const VERSION = 1;
/** Enough for the longest chain with the longest names. */
const MAX_BYTES = LIMITS.chainDepth * 8 * 1024;

/** An image of the chain, as the merge found it. */
export interface RecordedImage {
  readonly name: string;
  readonly key: string;
  readonly format: string;
}

/** Content of a record. */
export interface MergeRecord {
  readonly from: number;
  readonly to: number;
  /** Base first. */
  readonly images: readonly RecordedImage[];
}

/** The rest of an interrupted merge. */
export interface RestOfMerge {
  /** Numbers in the current chain; null: all data has been moved. */
  readonly numbers: { readonly from: number; readonly to: number } | null;
  /** Merged images no longer in the chain. */
  readonly leftovers: readonly RecordedImage[];
}

function recordOf({ provider, name }: Source): Source {
  return { provider, name: companionName(name, '.vdkit-merge') };
}

/** The record of a merge of this chain. */
export function recordFor({ images }: Chain, from: number, to: number): MergeRecord {
  return { from, to, images: images.map(({ name, key, format }) => ({ name, key, format })) };
}

/**
 * Writes the record durably. Without one, an interrupted merge must be completed by hand: the merge goes on all the
 * same.
 */
export async function writeMergeRecord(last: Source, record: MergeRecord): Promise<void> {
  const { provider, name } = recordOf(last);
  const draft = provider.temporaryName(name);
  try {
    const storage = await provider.create(draft);
    try {
      await storage.write(0, new TextEncoder().encode(`${JSON.stringify({ version: VERSION, ...record })}\n`));
      await storage.flush();
    } finally {
      await storage.close();
    }
    await provider.rename(draft, name, { replace: true });
    await provider.syncNames(provider.directory(name));
  } catch (error) {
    if (!isImageError(error)) throw error;
    await provider.remove(draft).catch(() => {});
  }
}

/** The record of an image, which may no longer exist; null for no readable record. */
export async function readMergeRecord(last: Source): Promise<MergeRecord | null> {
  const { provider, name } = recordOf(last);
  try {
    if ((await provider.lookUp(name))?.kind !== 'file') return null;
    const storage = await provider.open(name, 'read');
    try {
      if (storage.size > MAX_BYTES) return null;
      const bytes = new Uint8Array(storage.size);
      if (bytes.length > 0) await storage.read(0, bytes);
      return parse(new TextDecoder().decode(bytes));
    } finally {
      await storage.close();
    }
  } catch (error) {
    if (isImageError(error)) return null;
    throw error;
  }
}

/**
 * The last action of a merge, hence not awaited: a merge that is killed has its record, or is complete. If a power cut
 * restores the record, the repeated merge does nothing and reports that it had been interrupted.
 */
export async function removeMergeRecord(last: Source): Promise<void> {
  const { provider, name } = recordOf(last);
  if ((await provider.lookUp(name)) !== null) await provider.remove(name);
}

function parse(text: string): MergeRecord | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null) return null;
  const { version, from, to, images } = value as Record<string, unknown>;
  if (version !== VERSION || !Array.isArray(images) || images.length > LIMITS.chainDepth) return null;
  if (!isNumberOf(from, images.length) || !isNumberOf(to, images.length) || from === to) return null;
  return images.every(isRecorded) ? { from, to, images } : null;
}

function isNumberOf(value: unknown, count: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < count;
}

function isRecorded(value: unknown): value is RecordedImage {
  if (typeof value !== 'object' || value === null) return false;
  const { name, key, format } = value as Record<string, unknown>;
  return typeof name === 'string' && isPlainName(name) && typeof key === 'string' && typeof format === 'string';
}

/** Numbers of the merged images, highest first. */
export function sourcesOf(from: number, to: number): readonly number[] {
  const [low, high] = from < to ? [from, to - 1] : [to + 1, from];
  return Array.from({ length: high - low + 1 }, (_, index) => high - index);
}

/**
 * Returns the rest of a merge called with the same arguments as the interrupted one; null: a different merge, or none
 * was interrupted.
 */
export function restOf(
  chain: Chain,
  record: MergeRecord,
  from: number | 'last',
  to: number | 'last',
): RestOfMerge | null {
  const numberOf = (number: number | 'last'): number => (number === 'last' ? record.images.length - 1 : number);
  if (numberOf(from) !== record.from || numberOf(to) !== record.to) return null;
  const place = (number: number): number => {
    const recorded = record.images[number];
    return chain.images.findIndex(({ name }) => name === recorded?.name);
  };
  const target = place(record.to);
  const sources = sourcesOf(record.from, record.to);
  const gone = sources.filter((number) => place(number) === -1);
  if (target === -1 || gone.length === 0) return null;
  const leftovers = gone.flatMap((number) => record.images[number] ?? []);
  if (gone.length === sources.length) return { numbers: null, leftovers };
  // Only the last image stays in the chain until its file goes.
  return place(record.from) === chain.top ? { numbers: { from: chain.top, to: target }, leftovers } : null;
}

/** Deletes files of merged images. Returns a sentence for each that stays. */
export async function removeLeftovers(
  tools: ChainServices,
  { images }: Chain,
  provider: StorageProvider,
  leftovers: readonly RecordedImage[],
): Promise<string[]> {
  const keys = new Set(leftovers.map(({ key }) => key));
  const beside = new Set(images.map(({ name }) => provider.directory(name)));
  const stays: string[] = [];
  for (const one of leftovers) {
    const near = beside.has(provider.directory(one.name));
    const reason = near
      ? await removeLeftover(tools, { provider, name: one.name }, one, keys)
      : 'it is not in the directory of an image of the chain';
    if (reason !== null) stays.push(`${printable(one.name)} was merged but not deleted: ${reason}.`);
  }
  return stays;
}

/** Deletes one file. Returns the reason why it stays; null: deleted. */
async function removeLeftover(
  tools: ChainServices,
  source: Source,
  { key, format }: RecordedImage,
  keys: ReadonlySet<string>,
): Promise<string | null> {
  const present = await source.provider.lookUp(source.name);
  if (present === null) return null;
  if (present.key !== key) return 'it has been replaced by another file';
  let parts: ReturnType<typeof removableParts> = [];
  try {
    // The lock tells whether somebody works with it.
    const opened = await tools.open({ source, format, settings: { mode: 'write' } }, 'write');
    try {
      if (opened.key !== key) return 'it has been replaced by another file';
      parts = removableParts(opened);
      const { found, complete } = await tools.childrenOf([opened]);
      const other = found.find((one) => !keys.has(one.key));
      if (other !== undefined) return `${other.child} names it as its parent`;
      if (!complete) return 'not all files in its directory could be examined';
    } finally {
      await opened.image.close();
    }
    await removeFiles(source, parts);
    return null;
  } catch (error) {
    if (isImageError(error) && error.kind !== 'aborted') return error.message;
    throw error;
  }
}
