/** Boot catalog and boot record of El Torito. */
import {
  BLOCK,
  BOOT_ENTRY,
  BOOT_INFO,
  BOOT_INFO_AT,
  BOOT_INFO_END,
  BOOT_RECORD,
  DESCRIPTOR,
  EL_TORITO,
  PLATFORM,
  SECTION,
  STANDARD_ID,
  SYSTEM_BLOCKS,
  VALIDATION,
} from './layout.ts';
import type { BootImage } from './tree.ts';

const BOOTABLE = 0x88;
const NOT_BOOTABLE = 0;
const ASCII = new TextEncoder();

/** The descriptor that leads to the catalog. */
export function bootRecord(catalog: number): Uint8Array {
  const system = new Uint8Array(32);
  system.set(ASCII.encode(EL_TORITO));
  const bytes = new Uint8Array(BLOCK);
  const id = ASCII.encode(STANDARD_ID);
  bytes.set(BOOT_RECORD.encode({ type: DESCRIPTOR.boot, id, version: 1, system, unused: new Uint8Array(32), catalog }));
  return bytes;
}

/** The catalog: the first image is the default one, each further one has a section. */
export function bootCatalog(images: readonly BootImage[], blockOf: (image: BootImage) => number): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  let at = 0;
  const put = (entry: Uint8Array): void => {
    bytes.set(entry, at);
    at += entry.length;
  };
  const [first] = images;
  put(validation(first?.platform ?? PLATFORM.x86));
  for (const [index, image] of images.entries()) {
    if (index > 0) {
      const header = index === images.length - 1 ? 0x91 : 0x90;
      put(SECTION.encode({ header, platform: image.platform, entries: 1, id: new Uint8Array(28) }));
    }
    const { media, segment, sectors, bootable } = image;
    const own = {
      indicator: bootable ? BOOTABLE : NOT_BOOTABLE,
      media,
      segment,
      system: 0,
      unused: 0,
      sectors,
      block: blockOf(image),
    };
    put(BOOT_ENTRY.encode({ ...own, selection: new Uint8Array(20) }));
  }
  return bytes;
}

function validation(platform: number): Uint8Array {
  const fields = { header: 1, platform, reserved: 0, id: new Uint8Array(24), key: Uint8Array.of(0x55, 0xaa) };
  const bytes = VALIDATION.encode({ ...fields, checksum: 0 });
  const view = new DataView(bytes.buffer);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += view.getUint16(at, true);
  VALIDATION.put(bytes, 'checksum', -sum & 0xffff);
  return bytes;
}

/** A boot image with the table that tells it where it lies. */
export function withBootInfo(image: Uint8Array, block: number): Uint8Array {
  const bytes = image.slice();
  const view = new DataView(bytes.buffer);
  let checksum = 0;
  for (let at = BOOT_INFO_END; at < bytes.length; at += 4) {
    // A last word that is cut off is filled up with zeroes.
    let word = 0;
    for (let byte = Math.min(bytes.length - at, 4) - 1; byte >= 0; byte--) word = word * 256 + view.getUint8(at + byte);
    checksum = (checksum + word) >>> 0;
  }
  bytes.fill(0, BOOT_INFO_AT, BOOT_INFO_END);
  bytes.set(BOOT_INFO.encode({ descriptor: SYSTEM_BLOCKS, block, length: bytes.length, checksum }), BOOT_INFO_AT);
  return bytes;
}
