/** Names of files that vdkit puts beside an image: records and lock files. */
import { crc32c } from '../binary/crc32c.ts';

/** Maximum length of a file name on common file systems, in bytes. */
export const NAME_MAX = 255;

/**
 * The name of an image followed by a suffix. Where the file system could not hold that, the base name is shortened and
 * followed by its CRC-32C, so that images whose names begin alike have different companions.
 */
export function companionName(name: string, suffix: string): string {
  const at = name.search(/[^/\\]*$/);
  const base = name.slice(at);
  const encoder = new TextEncoder();
  const bytes = encoder.encode(base);
  if (bytes.length + suffix.length <= NAME_MAX) return name + suffix;
  const ending = `~${crc32c(bytes).toString(16).padStart(8, '0')}${suffix}`;
  return `${name.slice(0, at)}${shortened(base, NAME_MAX - ending.length)}${ending}`;
}

/** The start of a name that takes at most this many bytes: whole characters. */
export function shortened(base: string, bytes: number): string {
  const { read } = new TextEncoder().encodeInto(base, new Uint8Array(Math.max(0, bytes)));
  return base.slice(0, read);
}
