/** Further facts of a VHD image, for people. */
import { geometrySize } from './geometry.ts';
import type { VhdLayout } from './header.ts';
import { EPOCH, type Footer } from './layout.ts';

/** Rows of `ImageInfo.details`. */
export function detailsOf(
  footer: Footer,
  layout: VhdLayout | null,
): Readonly<Record<string, string | number | boolean>> {
  const byGeometry = geometrySize(footer);
  const { creator, creatorVersion, timestamp, originalSize, currentSize, savedState } = footer;
  return {
    creator: `${fourCharacters(creator)} ${creatorVersion >>> 16}.${creatorVersion & 0xffff}`,
    created: new Date((timestamp + EPOCH) * 1000).toISOString(),
    ...(originalSize === currentSize ? {} : { 'original size': originalSize }),
    ...(byGeometry === null ? {} : { 'size by geometry': byGeometry.bytes }),
    ...(savedState === 0 ? {} : { 'saved state': true }),
    ...(layout === null ? {} : { blocks: layout.blockCount }),
  };
}

function fourCharacters(value: number): string {
  const characters = [24, 16, 8, 0].map((shift) => String.fromCharCode((value >>> shift) & 0xff)).join('');
  return characters.replace(/[^\x20-\x7e]/g, '').trim();
}
