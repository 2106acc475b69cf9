/** `--offset`, `--partition` and `--member`: an image that lies inside another image or file. Loaded only when they are given. */
import { Environment } from '../disk/open/environment.ts';
import type { DiskOpenOptions, ImageSource } from '../disk/options.ts';
import { isImageError } from '../errors.ts';
import { detectFormat } from '../operations/inspect.ts';
import { openDisk } from '../operations/open.ts';
import type { OpenMode, Source } from '../storage/contract.ts';
import type { Bytes } from '../vfs/bytes.ts';
import { partitionOf } from '../vfs/partitions/index.ts';
import { type InsidePlace, insideSource } from '../vfs/source.ts';
import type { CommandContext } from './context.ts';
import { registryOf } from './registry.ts';

/** Place of the image inside the outer file. */
export interface Inside {
  readonly offset?: number;
  readonly partition?: number;
  /** The outer file is this member of the named archive. */
  readonly member?: string;
}

/** An image that a command works on. Dispose of it after closing the image. */
export interface PlacedImage extends AsyncDisposable {
  readonly source: ImageSource;
  /** For messages. */
  readonly name: string;
}

/** Access to the outer file. `look`: without locks, since only headers are read. */
export type OuterMode = OpenMode | 'look';

/** Options for opening the outer file. */
export interface OuterHow extends Pick<DiskOpenOptions, 'lock' | 'forceShare'> {
  readonly mode: OuterMode;
}

/**
 * The image inside the file that `name` names. The outer format is probed; a raw disk, or a file that is not a disk,
 * may be written because the caller named the place. References in the inner image are not followed.
 */
export async function imageInside(
  context: CommandContext,
  name: string,
  inside: Inside,
  how: OuterHow,
): Promise<PlacedImage> {
  const { mode } = how;
  const outer = await openOuter(context, name, inside, how);
  try {
    const [place, words] = await placeOf(outer, inside);
    const label = `${name} (${words})`;
    const access = mode === 'write' ? 'write' : 'read';
    const source = insideSource(outer, place, { name: label, access, closeOuter: true });
    return { source, name: label, [Symbol.asyncDispose]: () => source[Symbol.asyncDispose]() };
  } catch (error) {
    await outer.close();
    throw error;
  }
}

/** The image that is a member of the archive that `name` names. */
export async function memberOf(context: CommandContext, name: string, member: string): Promise<PlacedImage> {
  const source = await memberSource(name, member, { registry: registryOf(context) });
  return { source, name: `${name} (${member})`, async [Symbol.asyncDispose]() {} };
}

async function memberSource(name: string, member: string, options: DiskOpenOptions): Promise<Source> {
  return { ...(await Environment.of(options)).sourceOf(name), member };
}

async function placeOf(outer: Bytes, { offset, partition }: Inside): Promise<[InsidePlace, string]> {
  if (partition === undefined) return [{ offset: offset ?? 0 }, `at ${offset}`];
  const found = await partitionOf(outer, partition);
  return [{ offset: found.offset, length: found.length }, `partition ${partition}`];
}

async function openOuter(context: CommandContext, name: string, inside: Inside, how: OuterHow): Promise<Bytes> {
  const { mode, ...locking } = how;
  const { signal, allow } = context;
  const options: DiskOpenOptions = {
    registry: registryOf(context),
    signal,
    allow,
    ...(mode === 'look' ? { lock: false } : locking),
  };
  const openMode = mode === 'write' ? 'write' : 'read';
  if (inside.member !== undefined) {
    return openDisk(await memberSource(name, inside.member, options), { ...options, mode: openMode });
  }
  if (!(await isPlain(name, inside, options))) return openDisk(name, { ...options, mode: openMode });
  const { provider, name: own } = (await Environment.of(options)).sourceOf(name);
  // The image inside locks it as it needs.
  return provider.open(own, openMode);
}

/** Archives that can contain an image unpacked: `--offset` reaches it. */
const ARCHIVES = new Set(['tar', 'zip']);

/** True when the named file is plain bytes without an image format. */
async function isPlain(name: string, { partition }: Inside, options: DiskOpenOptions): Promise<boolean> {
  try {
    const { guessed, format } = await detectFormat(name, options);
    return guessed || (partition === undefined && ARCHIVES.has(format));
  } catch (error) {
    // No whole number of sectors: no disk, but an image may lie in it all the same.
    if (isImageError(error) && error.kind === 'invalid-format') return true;
    throw error;
  }
}
