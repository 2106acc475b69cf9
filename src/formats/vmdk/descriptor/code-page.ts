/**
 * Code pages of descriptors. A descriptor is handled as bytes, one character each, since quotes, equals signs and line
 * ends are ASCII in every code page in use; only values are decoded.
 */

/** Names that VMware writes and the Encoding Standard lacks. */
const ALIASES: Readonly<Record<string, string>> = {
  'windows-932': 'shift_jis',
  'windows-936': 'gbk',
  'windows-949': 'euc-kr',
  'windows-950': 'big5',
  'windows-65001': 'utf-8',
};

/**
 * Bytes 0x80 to 0x9f of windows-1252. Node 20 decodes them as ISO 8859-1; by the Encoding Standard the five without a
 * character stand for themselves.
 */
const WINDOWS_1252 = '€\x81‚ƒ„…†‡ˆ‰Š‹Œ\x8dŽ\x8f\x90‘’“”•–—˜™š›œ\x9džŸ';

/** Conversion between text and the bytes of a descriptor, one character for each byte. */
export interface CodePage {
  /** The name in the descriptor. */
  readonly name: string;
  /** False if the platform does not have it: then only ASCII is converted faithfully. */
  readonly known: boolean;
  /** Bytes that mean nothing become replacement characters. */
  decode(binary: string): string;
  /** Null if a character is not in the code page. */
  encode(text: string): string | null;
}

/** The code page of that name. */
export function codePage(name: string): CodePage {
  const decoder = decoderFor(name);
  const known = decoder !== null;
  const { encoding } = decoder ?? new TextDecoder();
  return {
    name,
    known,
    decode: (binary) => (isAscii(binary) ? binary : decodeBy(decoder ?? new TextDecoder(), bytesOf(binary))),
    encode(text) {
      if (isAscii(text)) return text;
      if (!known) return null;
      return encoding === 'utf-8' ? binaryOf(new TextEncoder().encode(text)) : encodeByTable(encoding, text);
    },
  };
}

/** Bytes as text, one character each. */
export function binaryOf(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** The bytes of such a text. */
export function bytesOf(binary: string): Uint8Array {
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

function isAscii(text: string): boolean {
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x7f) return false;
  return true;
}

function decodeBy(decoder: TextDecoder, bytes: Uint8Array): string {
  const text = decoder.decode(bytes);
  if (decoder.encoding !== 'windows-1252') return text;
  return text.replace(/[\x80-\x9f]/g, (character) => WINDOWS_1252.charAt(character.charCodeAt(0) - 0x80));
}

function decoderFor(name: string): TextDecoder | null {
  const lower = name.trim().toLowerCase();
  try {
    return new TextDecoder(ALIASES[lower] ?? lower, { ignoreBOM: true });
  } catch {
    // The platform refuses names that it does not have.
    return null;
  }
}

/** Tables from text to bytes, made when a name is first stored in that code page. */
const tables = new Map<string, ReadonlyMap<string, string>>();

function encodeByTable(encoding: string, text: string): string | null {
  const table = tables.get(encoding) ?? tableOf(encoding);
  tables.set(encoding, table);
  let binary = '';
  for (const character of text) {
    const bytes = character < '\x80' ? character : table.get(character);
    if (bytes === undefined) return null;
    binary += bytes;
  }
  return binary;
}

/** The platform decodes every code page and encodes only UTF-8: all characters of one and two bytes, turned round. */
function tableOf(encoding: string): ReadonlyMap<string, string> {
  const decoder = new TextDecoder(encoding, { fatal: true });
  const table = new Map<string, string>();
  const add = (...codes: readonly number[]): void => {
    const character = decodedOrNull(decoder, codes);
    if (character !== null && [...character].length === 1 && !table.has(character)) {
      table.set(character, String.fromCharCode(...codes));
    }
  };
  for (let code = 0x80; code <= 0xff; code++) add(code);
  for (let lead = 0x80; lead <= 0xff; lead++) for (let trail = 0x30; trail <= 0xff; trail++) add(lead, trail);
  return table;
}

function decodedOrNull(decoder: TextDecoder, codes: readonly number[]): string | null {
  try {
    return decodeBy(decoder, Uint8Array.from(codes));
  } catch {
    return null;
  }
}
