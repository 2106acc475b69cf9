/** Zip archives: the member that is the disk, read in place where it is stored, unpacked where it is compressed. */
import { streamInflater } from '#decompress';
import { rangeChunks } from '../../../blocks/range-chunks.ts';
import { Chunks } from '../../../codec/chunks.ts';
import { ImageError, printable } from '../../../errors.ts';
import type { InnerChunks, InnerRange, UnwrapOptions, Unwrapped } from '../../../image/unwrap.ts';
import { LIMITS } from '../../../limits.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import { chooseMember, lastPart } from './members.ts';
import { FLAG, METHOD, METHOD_NAMES } from './zip-layout.ts';
import { dataOf, readZip, type ZipMember } from './zip-members.ts';

/** The disk in a zip archive. The checksum of a stored one is compared if `verify` says so, since that reads all of it. */
export async function unwrapZip(storage: Storage, options: UnwrapOptions): Promise<Unwrapped> {
  const { label } = storage;
  const { members, warnings, end } = await readZip(storage);
  const { member, rest } = chooseMember(members, { ...options, label });
  refuseForm(member, label);
  const range = await dataOf(storage, member, end);
  const content = member.method === METHOD.stored ? range : inflated(storage, range, member, options);
  if (member.method === METHOD.stored && options.verify) await verify(storage, range, member, options);
  const { name } = member;
  return { name: lastPart(name), member: name, rest, content, isArchive: true, warnings };
}

/** Refuses what cannot be decoded. */
function refuseForm({ name, flags, method, size, storedSize }: ZipMember, path: string): void {
  const found = printable(name);
  if ((flags & (FLAG.encrypted | FLAG.strong | FLAG.masked)) !== 0) {
    const hint = 'Unpack it first, with its password (7z x, unzip).';
    throw new ImageError('unsupported', 'The member of the zip archive is encrypted', { path, found, hint });
  }
  if ((method !== METHOD.stored && method !== METHOD.deflate) || (flags & FLAG.patch) !== 0) {
    const by = METHOD_NAMES[method] ?? `method ${method}`;
    const hint = 'Unpack it first (7z x).';
    throw new ImageError('unsupported', `The member of the zip archive is compressed with ${by}`, {
      path,
      found,
      hint,
    });
  }
  if (method === METHOD.stored && size !== storedSize) {
    throw damaged(path, 'has two different sizes though it is not compressed', { found: storedSize, expected: size });
  }
  if (size > LIMITS.unpackedBytes && method === METHOD.deflate) {
    const expected = `at most ${LIMITS.unpackedBytes} bytes`;
    throw new ImageError('limit', 'The member of the zip archive unpacks to too much', { path, found: size, expected });
  }
}

function inflated(storage: Storage, range: InnerRange, member: ZipMember, options: OperationOptions): InnerChunks {
  const { label } = storage;
  return {
    expectedSize: async () => member.size,
    async *decode() {
      const inflate = await streamInflater();
      if (inflate === null) {
        const hint = 'Unpack the file first.';
        throw new ImageError('unsupported', 'Zip archives cannot be unpacked in a browser', { path: label, hint });
      }
      const input = new Chunks(rangeChunks(storage, range, options));
      let [crc, length] = [0, 0];
      for await (const chunk of inflate.decode(input)) {
        crc = inflate.crc32(chunk, crc);
        length += chunk.length;
        if (length > member.size) throw damaged(label, 'unpacks to too much', { expected: `${member.size} bytes` });
        yield chunk;
      }
      if ((await input.peek(1)).length > 0) throw damaged(label, 'has other bytes behind its data');
      if (length !== member.size) throw damaged(label, 'ends early', { found: length, expected: member.size });
      requireSum(crc, member, label);
    },
  };
}

/** Reads all of a stored member. */
async function verify(
  storage: Storage,
  range: InnerRange,
  member: ZipMember,
  options: OperationOptions,
): Promise<void> {
  const inflate = await streamInflater();
  const sum = inflate?.crc32 ?? (await import('../../../binary/crc32.ts')).crc32;
  let crc = 0;
  for await (const chunk of rangeChunks(storage, range, options)) crc = sum(chunk, crc);
  requireSum(crc, member, storage.label);
}

function requireSum(crc: number, member: ZipMember, path: string): void {
  const [found, expected] = [crc >>> 0, member.crc];
  if (found !== expected) throw damaged(path, 'does not fit its checksum', { field: 'CRC-32', found, expected });
}

function damaged(path: string, what: string, context: ConstructorParameters<typeof ImageError>[2] = {}): ImageError {
  return new ImageError('corrupt', `The member of the zip archive ${what}`, { path, ...context });
}
