/** DMG: Apple's UDIF, with its trailer at the end; and the containers that wrap it. */
import type { ProbeInput } from '../../image/contract.ts';
import { hasText, u32At } from './look.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** UDIF resource file, as the hdiutil manual calls it: the "koly" block in the last 512 bytes. Apple publishes no layout. */
const TRAILER = { size: 512, magic: 'koly', version: 4, headerSize: 8 } as const;
/** Encrypted images: version 2 begins with its header, version 1 ends with it. */
const ENCRYPTED_START = 'encrcdsa';
const ENCRYPTED_END = 'cdsaencr';
/** The XAR archive format: its header. */
const ARCHIVE = 'xar!';

/** Apple's disk images, recognised only. */
export const dmg = recognisedFormat({
  name: 'dmg',
  title: 'Apple Disk Image',
  label: 'DMG',
  extensions: ['dmg'],
  type: 'optical',
  recognise: (input) => trailer(input) ?? encrypted(input) ?? wrapped(input),
});

function trailer({ tail }: ProbeInput): Recognised | null {
  const start = tail.length - TRAILER.size;
  if (!hasText(tail, start, TRAILER.magic)) return null;
  const version = u32At(tail, start + TRAILER.version, 'big');
  const whole = version === 4 && u32At(tail, start + TRAILER.headerSize, 'big') === TRAILER.size;
  // The last sector of a raw disk belongs to the guest: four letters alone are not enough to be sure.
  return { match: whole ? 'yes' : 'maybe', reason: 'a koly trailer at the end', detail: `DMG version ${version}` };
}

function encrypted({ head, tail }: ProbeInput): Recognised | null {
  if (hasText(head, 0, ENCRYPTED_START)) {
    return { match: 'yes', reason: `the signature ${ENCRYPTED_START}`, detail: 'encrypted DMG version 2' };
  }
  if (!hasText(tail, tail.length - ENCRYPTED_END.length, ENCRYPTED_END)) return null;
  return { match: 'yes', reason: `the signature ${ENCRYPTED_END} at the end`, detail: 'encrypted DMG version 1' };
}

function wrapped({ head }: ProbeInput): Recognised | null {
  if (hasText(head, 0, ARCHIVE)) {
    return { match: 'maybe', reason: `the signature ${ARCHIVE}`, detail: 'XAR archive that may hold a DMG' };
  }
  if (!hasText(head, 0, TRAILER.magic)) return null;
  return { match: 'maybe', reason: 'a koly header at the start', detail: 'DMG of an obsolete layout' };
}
