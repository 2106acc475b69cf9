/** The property list of a sparse bundle, checked. */
import { hasText } from '../../binary/look.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { type PlistPlace, parsePlist, plistEntry, plistTop } from '../../blocks/plist.ts';
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { BUNDLE_TYPE, KEY, LIMITS, VERSION } from './layout.ts';

/** Sizes of a bundle, in bytes. */
export interface BundleFacts {
  readonly virtualSize: number;
  readonly bandBytes: number;
}

/** The first letters of the binary form. */
const BINARY = 'bplist';

/** Reads and checks a property list. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`. */
export async function readFacts(storage: Storage): Promise<BundleFacts> {
  const { label: path, size } = storage;
  if (size > LIMITS.listBytes) throw tooMuch(path, 'length of the property list', size, `${LIMITS.listBytes} bytes`);
  const bytes = new Uint8Array(size);
  if (size > 0) await storage.read(0, bytes);
  if (hasText(bytes, 0, BINARY)) {
    throw new ImageError('unsupported', 'The property list of the sparse bundle is a binary one', {
      path,
      hint: 'Convert it (plutil -convert xml1 Info.plist), in a copy of the bundle.',
    });
  }
  const values = valuesIn(bytes, { path, what: 'The property list of the sparse bundle', depth: LIMITS.depth });
  return checked(values, path);
}

type Values = (key: string) => string | null;

function valuesIn(bytes: Uint8Array, place: PlistPlace): Values {
  const top = plistTop(parsePlist(bytes, place));
  return (key) => (top === undefined ? null : (plistEntry(top, key)?.text.trim() ?? null));
}

function checked(values: Values, path: string): BundleFacts {
  const type = values(KEY.type);
  if (type !== BUNDLE_TYPE) throw wrong(path, KEY.type, type ?? 'nothing', BUNDLE_TYPE);
  const version = values(KEY.version);
  if (version !== null && version !== `${VERSION}`) {
    const message = 'The version of the sparse bundle is not supported';
    throw new ImageError('unsupported', message, { path, field: KEY.version, found: version, expected: `${VERSION}` });
  }
  const bandBytes = bytesIn(values, KEY.bandBytes, path);
  const virtualSize = bytesIn(values, KEY.diskBytes, path);
  if (virtualSize / SECTOR > LIMITS.sectors)
    throw tooMuch(path, KEY.diskBytes, virtualSize, `${LIMITS.sectors} sectors`);
  return { virtualSize, bandBytes };
}

function bytesIn(values: Values, key: string, path: string): number {
  const text = values(key);
  const bytes = text !== null && /^[0-9]{1,16}$/.test(text) ? Number(text) : 0;
  if (bytes > 0 && Number.isSafeInteger(bytes) && bytes % SECTOR === 0) return bytes;
  throw wrong(path, key, text ?? 'nothing', `a number of bytes above 0, in whole sectors of ${SECTOR}`);
}

function wrong(path: string, field: string, found: string, expected: string): ImageError {
  const message = 'The property list does not describe a sparse bundle';
  return new ImageError('invalid-format', message, { path, field, found: found.slice(0, 80), expected });
}

/** A number beyond what is accepted. */
export function tooMuch(path: string, field: string, found: number, most: string): ImageError {
  const message = `The ${field} of the sparse bundle is too large`;
  return new ImageError('limit', message, { path, field, found, expected: `at most ${most}` });
}
