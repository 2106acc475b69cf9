/** Tar archives and appliances (OVA): the member that is the disk, read in place. */
import { type ErrorKind, ImageError, isImageError, printable } from '../../../errors.ts';
import type { UnwrapOptions, Unwrapped } from '../../../image/unwrap.ts';
import type { Storage } from '../../../storage/contract.ts';
import { chooseMember, keyOf, lastPart } from './members.ts';
import type { DescribedDisk } from './ovf-disks.ts';
import { readTar, type TarMember } from './tar-members.ts';

/** Values of `ovf:compression` whose files are read. */
const COMPRESSIONS = ['', 'identity', 'gzip'];
/** Faults of a description that do not matter to a caller who chose a member. */
const FAULTS: readonly ErrorKind[] = ['corrupt', 'unsupported', 'limit'];

/** The disk in a tar archive. Where it has one OVF, the disks are those that it describes. */
export async function unwrapTar(storage: Storage, options: UnwrapOptions): Promise<Unwrapped> {
  const { label } = storage;
  const { members, warnings } = await readTar(storage, options);
  const described = await describedOf(storage, members, options);
  const disks = described?.map(({ member }) => member) ?? null;
  const all = [...members, ...(disks ?? []).filter((one) => !members.includes(one))];
  const { member, rest } = chooseMember(all, { ...options, label }, disks);
  const disk = described?.find((one) => one.member === member)?.disk;
  if (disk !== undefined) refuseForm(disk, label);
  const { name, offset, length } = member;
  return { name: lastPart(name), member: name, rest, content: { offset, length }, isArchive: true, warnings };
}

/** A disk that is described, and its member. */
interface Described {
  readonly disk: DescribedDisk;
  readonly member: TarMember;
}

/** The disks of the description; null: there is none, or it cannot be used and the caller chose a member. */
async function describedOf(
  storage: Storage,
  members: readonly TarMember[],
  options: UnwrapOptions,
): Promise<readonly Described[] | null> {
  try {
    return await disksByOvf(storage, members);
  } catch (error) {
    if (options.member !== undefined && isImageError(error) && FAULTS.includes(error.kind)) return null;
    throw error;
  }
}

async function disksByOvf(storage: Storage, members: readonly TarMember[]): Promise<readonly Described[] | null> {
  const [ovf, ...others] = members.filter(({ name, kind }) => kind === null && /\.ovf$/i.test(name));
  if (ovf === undefined || others.length > 0) return null;
  const { describedDisks, OVF_LIMITS } = await import('./ovf-disks.ts');
  if (ovf.length > OVF_LIMITS.bytes) {
    throw new ImageError('limit', 'The OVF of the archive is too long', {
      path: storage.label,
      found: ovf.length,
      expected: `at most ${OVF_LIMITS.bytes} bytes`,
    });
  }
  const bytes = new Uint8Array(ovf.length);
  await storage.read(ovf.offset, bytes);
  const disks = describedDisks(bytes, storage.label);
  return disks.map((disk) => ({ disk, member: memberOf(disk, ovf.name, members, storage.label) }));
}

/** Refuses a disk that is stored in a way that is not read. */
function refuseForm({ href, compression, chunkSize, hasParent }: DescribedDisk, path: string): void {
  const unread = !COMPRESSIONS.includes(compression);
  if (!unread && chunkSize === undefined && !hasParent) return;
  const form = unread
    ? `compressed with ${printable(compression)}`
    : chunkSize !== undefined
      ? 'split into pieces (ovf:chunkSize)'
      : 'stored as its changes to another disk (ovf:parentRef)';
  throw new ImageError('unsupported', `The disk in the archive is ${form}`, {
    path,
    found: printable(href),
    hint: 'Unpack the archive, and make one file of it.',
  });
}

/** The member of a name that counts from the place of the description. */
function memberOf(
  { href, chunkSize }: DescribedDisk,
  ovf: string,
  members: readonly TarMember[],
  path: string,
): TarMember {
  const directory = ovf.slice(0, ovf.length - lastPart(ovf).length);
  const keys = [href, decoded(href)].flatMap((name) => [keyOf(directory + keyOf(name)), keyOf(name)]);
  const found = keys.flatMap((key) => members.find(({ name }) => keyOf(name) === key) ?? []).at(0);
  if (found?.kind === null) return found;
  // It is listed, and `refuseForm` refuses it when it is chosen.
  if (chunkSize !== undefined) return { name: href, kind: null, offset: 0, length: 0 };
  throw new ImageError('corrupt', 'The OVF names a disk that is not in the archive', {
    path,
    found: printable(href),
    hint: 'If it is another file, specify that.',
  });
}

function decoded(href: string): string {
  try {
    return decodeURIComponent(href);
  } catch {
    return href;
  }
}
