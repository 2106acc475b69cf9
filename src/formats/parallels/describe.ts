/** Further facts of a Parallels image, for reports. */
import type { Extension } from './extension.ts';
import { headerWarnings, type ParallelsLayout } from './header.ts';

/** Rows of `ImageInfo.details`. */
export function detailsOf(
  { header, dataStart, entries }: ParallelsLayout,
  extension: Extension | null,
): Record<string, string | number | boolean> {
  return {
    signature: header.magic,
    'data offset': dataStart,
    clusters: entries,
    ...extensionDetails(extension),
  };
}

function extensionDetails(extension: Extension | null): Record<string, string | number | boolean> {
  if (extension === null) return {};
  const { bitmaps, damage, outdated } = extension;
  const state = damage === null ? (outdated ? 'outdated' : 'sound') : 'damaged';
  const [bitmap] = bitmaps;
  return {
    'format extension': state,
    ...(bitmap === undefined
      ? {}
      : { 'dirty bitmap': bitmap.id, 'bytes for each bit of the bitmap': bitmap.granularity }),
  };
}

/** Irregularities, for people. */
export function warningsOf(layout: ParallelsLayout, extension: Extension | null, label: string): string[] {
  return [...headerWarnings(layout, label), ...extensionWarnings(extension, label)];
}

function extensionWarnings(extension: Extension | null, label: string): string[] {
  if (extension === null) return [];
  if (extension.damage !== null) return [`The format extension of ${label} is not used: ${extension.damage}.`];
  if (!extension.outdated) return [];
  return [`The format extension of ${label} is not used: a program without it has written to the image.`];
}
