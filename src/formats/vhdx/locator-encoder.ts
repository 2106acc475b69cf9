/** Parent locators as they are stored. */
import type { NamesOfParent } from '../../image/parent.ts';
import { fault } from './fault.ts';
import { LOCATOR, LOCATOR_ENTRY, LOCATOR_TYPE } from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';
import { FORMAT_KEY, LINKAGE, OWN_FORMAT } from './locator.ts';

/** A parent as a locator stores it. */
export interface StoredParent extends NamesOfParent {
  /** Null: the identity of the parent is not known. */
  readonly linkage: string | null;
  readonly format: string;
}

/** Pairs for a parent. */
export function locatorPairs({ relative, absolute, linkage, format }: StoredParent): Map<string, string> {
  const guid = linkage ?? '00000000-0000-0000-0000-000000000000';
  const pairs: [string, string][] = [[LINKAGE, `{${guid}}`]];
  if (relative !== null) pairs.push(['relative_path', windowsRelative(relative)]);
  if (absolute !== null) pairs.push(['absolute_win32_path', windowsAbsolute(absolute)]);
  if (format !== OWN_FORMAT) pairs.push([FORMAT_KEY, format]);
  return new Map(pairs);
}

function windowsRelative(name: string): string {
  const text = name.replaceAll('/', '\\');
  return text.startsWith('.') ? text : `.\\${text}`;
}

function windowsAbsolute(name: string): string {
  const text = name.replaceAll('/', '\\');
  if (/^[a-z]:\\/i.test(text)) return `\\\\?\\${text}`;
  return text;
}

/** The bytes of a locator. Throws `limit` for names that are too long. */
export function encodeLocator(pairs: ReadonlyMap<string, string>): Uint8Array {
  const texts = [...pairs].flat();
  const end = texts.reduce((sum, text) => sum + text.length * 2, LOCATOR.size + pairs.size * LOCATOR_ENTRY.size);
  const tooLong = texts.find((text) => text.length * 2 > 0xffff);
  if (tooLong !== undefined || end > VHDX_LIMITS.locatorBytes) {
    throw fault('limit', 'The name of the parent is too long for a VHDX image', {
      found: `${tooLong?.length ?? end / 2} characters`,
      expected: `at most ${Math.floor(0xffff / 2)}`,
    });
  }
  const bytes = new Uint8Array(end);
  bytes.set(LOCATOR.encode({ type: LOCATOR_TYPE, reserved: 0, count: pairs.size }));
  let at = LOCATOR.size + pairs.size * LOCATOR_ENTRY.size;
  let entry = LOCATOR.size;
  const put = (text: string): number => {
    const start = at;
    const view = new DataView(bytes.buffer);
    for (let unit = 0; unit < text.length; unit++, at += 2) view.setUint16(at, text.charCodeAt(unit), true);
    return start;
  };
  for (const [key, value] of pairs) {
    const [keyOffset, valueOffset] = [put(key), put(value)];
    const [keyLength, valueLength] = [key.length * 2, value.length * 2];
    bytes.set(LOCATOR_ENTRY.encode({ keyOffset, valueOffset, keyLength, valueLength }), entry);
    entry += LOCATOR_ENTRY.size;
  }
  return bytes;
}
