/** Gzip (RFC 1952): members one after another, each with a checksum and its length. */
import { streamInflater } from '#decompress';
import { ImageError } from '../errors.ts';
import type { Chunks } from './chunks.ts';

/** Member header and the bits of its flags. */
const HEADER = { size: 10, method: 2, flags: 3 } as const;
const FLAG = { crc: 2, extra: 4, name: 8, comment: 16, reserved: 0xe0 } as const;
const TRAILER = { size: 8, crc: 0, length: 4 } as const;
/** Longest name or comment that is accepted. */
const TEXT_MAX = 64 * 1024;
const DEFLATE = 8;

/** Something about the file that its content does not suffer from. */
export type Notice = (text: string) => void;

/**
 * Decodes all members, in bounded memory. Checksums and lengths are verified. Other bytes behind the last member are
 * reported and left out. Throws `corrupt`, `unsupported`.
 */
export async function* decodeGzip(input: Chunks, notice: Notice): AsyncGenerator<Uint8Array> {
  const inflate = await streamInflater();
  if (inflate === null) {
    throw new ImageError('unsupported', 'Gzip files cannot be unpacked in a browser', {
      hint: 'Unpack the file first.',
    });
  }
  do {
    await readHeader(input);
    let [crc, length] = [0, 0];
    for await (const chunk of inflate.decode(input)) {
      crc = inflate.crc32(chunk, crc);
      length = (length + chunk.length) % 2 ** 32;
      yield chunk;
    }
    const trailer = await input.take(TRAILER.size);
    if (trailer.length < TRAILER.size) throw corrupt('ends early');
    const view = new DataView(trailer.buffer, trailer.byteOffset, trailer.length);
    requireEqual('CRC-32', view.getUint32(TRAILER.crc, true), crc >>> 0);
    requireEqual('ISIZE', view.getUint32(TRAILER.length, true), length);
  } while (await isFollowed(input, notice));
}

/** True when another member follows. */
async function isFollowed(input: Chunks, notice: Notice): Promise<boolean> {
  const zeroes = await input.skipZeroes();
  const next = await input.peek(3);
  if (next.length === 0) return false;
  const [first, second, method] = next;
  const begins =
    first === 0x1f && (second === undefined || second === 0x8b) && (method === undefined || method === DEFLATE);
  if (begins) return true;
  const where = zeroes === 0 ? '' : `${zeroes} zeroes and `;
  notice(`Behind the compressed data are ${where}bytes that are not gzip; they are left out.`);
  return false;
}

async function readHeader(input: Chunks): Promise<void> {
  const header = await input.take(HEADER.size);
  if (header.length < HEADER.size) throw corrupt('ends early');
  const flags = header[HEADER.flags] ?? 0;
  if (header[HEADER.method] !== DEFLATE || (flags & FLAG.reserved) !== 0) {
    throw new ImageError('unsupported', 'The gzip data has an unknown method or flag', {
      found: `method ${header[HEADER.method]}, flags ${flags}`,
    });
  }
  const crc = new HeaderSum();
  crc.add(header);
  if ((flags & FLAG.extra) !== 0) {
    const size = await need(input, 2, crc);
    await need(input, (size[0] ?? 0) + (size[1] ?? 0) * 256, crc);
  }
  for (const flag of [FLAG.name, FLAG.comment]) if ((flags & flag) !== 0) await passText(input, crc);
  if ((flags & FLAG.crc) === 0) return;
  const found = await need(input, 2, null);
  requireEqual('header CRC', (found[0] ?? 0) + (found[1] ?? 0) * 256, await crc.value());
}

/** Sum over the parts of a header. */
class HeaderSum {
  readonly #parts: Uint8Array[] = [];

  add(bytes: Uint8Array): void {
    this.#parts.push(bytes.slice());
  }

  async value(): Promise<number> {
    const inflate = await streamInflater();
    return this.#parts.reduce((sum, part) => inflate?.crc32(part, sum) ?? 0, 0) & 0xffff;
  }
}

async function need(input: Chunks, length: number, sum: HeaderSum | null): Promise<Uint8Array> {
  const bytes = await input.take(length);
  if (bytes.length < length) throw corrupt('ends early');
  sum?.add(bytes);
  return bytes;
}

/** Passes over a text that ends with NUL. */
async function passText(input: Chunks, sum: HeaderSum): Promise<void> {
  for (let length = 0; ; ) {
    const chunk = await input.pull();
    if (chunk === null) throw corrupt('ends early');
    const end = chunk.indexOf(0);
    const taken = chunk.subarray(0, end === -1 ? chunk.length : end + 1);
    input.unread(chunk.subarray(taken.length));
    length += taken.length;
    if (length > TEXT_MAX) throw corrupt('has a name without an end', { expected: `at most ${TEXT_MAX} bytes` });
    sum.add(taken);
    if (end !== -1) return;
  }
}

function requireEqual(field: string, found: number, expected: number): void {
  if (found === expected) return;
  throw corrupt('does not fit its checksum', { field, found, expected });
}

function corrupt(what: string, details: ConstructorParameters<typeof ImageError>[2] = {}): ImageError {
  return new ImageError('corrupt', `The gzip data ${what}`, details);
}
