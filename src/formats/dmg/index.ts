/** DMG: Apple's UDIF, with its trailer at the end; and the containers that wrap it. */
import { hasText, lastPlacesOf, u32At, u64At } from '../../binary/look.ts';
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';

/** The trailer, in the last 512 bytes. The layout module has all of it. */
const TRAILER = { size: 512, magic: 'koly', version: 4, headerSize: 8 } as const;
/** Of the trailer: offset and length of data, resource fork, property list and signature, which all lie before it. */
const PARTS = [0x18, 0x28, 0xd8, 0x128] as const;
const ENCRYPTED_START = 'encrcdsa';
const ENCRYPTED_END = 'cdsaencr';
const ARCHIVE = 'xar!';

/** Apple's disk images; new ones are written once, from front to back. */
export const dmg: Format = defineFormat({
  name: 'dmg',
  aliases: ['udif'],
  title: 'Apple Disk Image',
  extensions: [{ extension: 'dmg', type: 'hdd' }],
  variants: [
    { word: 'udzo', description: 'compressed with zlib, written once (default)', allocation: 'dynamic' },
    { word: 'udbz', description: 'compressed with bzip2, written once', allocation: 'dynamic' },
  ],
  probe,
  encodesAlways: () => true,
  writesForwards: () => true,
  ...loadedMethods(() => import('./driver.ts'), ['open', 'check']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
});

function probe(input: ProbeInput): ProbeAnswer {
  const found = trailer(input) ?? encrypted(input) ?? wrapped(input) ?? buried(input);
  return found === null ? { match: 'no', reason: 'no DMG signature' } : { ...found, type: 'hdd' };
}

type Found = Pick<Exclude<ProbeAnswer, { match: 'no' }>, 'match' | 'reason' | 'detail'>;

function trailer({ tail }: ProbeInput): Found | null {
  const start = tail.length - TRAILER.size;
  if (!hasText(tail, start, TRAILER.magic)) return null;
  const version = u32At(tail, start + TRAILER.version, 'big');
  const whole = version === 4 && u32At(tail, start + TRAILER.headerSize, 'big') === TRAILER.size;
  // The last sector of a raw disk belongs to the guest: four letters alone are not enough to be sure.
  return { match: whole ? 'yes' : 'maybe', reason: 'a koly trailer at the end', detail: `DMG version ${version}` };
}

/**
 * A trailer followed by other bytes, as some transfers leave it. Never certain: a guest file may end there. The parts
 * named by the trailer must reach up to it, which is not so for one inside a larger disk.
 */
function buried({ size, tail }: ProbeInput): Found | null {
  for (const at of lastPlacesOf(tail.subarray(0, Math.max(0, tail.length - TRAILER.size)), TRAILER.magic)) {
    if (u32At(tail, at + TRAILER.version, 'big') !== 4) continue;
    if (u32At(tail, at + TRAILER.headerSize, 'big') !== TRAILER.size) continue;
    const ends = PARTS.map((part) => endOf(tail, at + part));
    const place = BigInt(size - tail.length + at);
    const reaches = ends.some((end) => place - end <= BigInt(TRAILER.size));
    if (!reaches || ends.some((end) => end > place)) continue;
    const behind = tail.length - at - TRAILER.size;
    return {
      match: 'maybe',
      reason: 'a koly trailer near the end',
      detail: `DMG version 4 with ${behind} bytes behind its trailer`,
    };
  }
  return null;
}

/** End of the part whose offset and length are stored there. */
function endOf(tail: Uint8Array, at: number): bigint {
  const [offset, length] = [u64At(tail, at, 'big') ?? 0n, u64At(tail, at + 8, 'big') ?? 0n];
  return length === 0n ? 0n : offset + length;
}

function encrypted({ head, tail }: ProbeInput): Found | null {
  if (hasText(head, 0, ENCRYPTED_START)) {
    return { match: 'yes', reason: `the signature ${ENCRYPTED_START}`, detail: 'encrypted DMG version 2' };
  }
  if (!hasText(tail, tail.length - ENCRYPTED_END.length, ENCRYPTED_END)) return null;
  return { match: 'yes', reason: `the signature ${ENCRYPTED_END} at the end`, detail: 'encrypted DMG version 1' };
}

function wrapped({ head }: ProbeInput): Found | null {
  if (hasText(head, 0, ARCHIVE)) {
    return { match: 'maybe', reason: `the signature ${ARCHIVE}`, detail: 'XAR archive that may hold a DMG' };
  }
  if (!hasText(head, 0, TRAILER.magic)) return null;
  return { match: 'maybe', reason: 'a koly header at the start', detail: 'DMG of an obsolete layout' };
}
