/** Reports on the images of an open disk: for people, and for backups of metadata. */
import { isImageError, printable } from '../errors.ts';
import type { Image, MetadataExtent } from '../image/contract.ts';
import type { Storage } from '../storage/contract.ts';
import { readPadded } from '../storage/read-padded.ts';
import type { MetadataOptions } from './options.ts';
import type { ChainImage } from './path/chain.ts';

/** Bytes of metadata per piece. */
const CHUNK = 1024 * 1024;

/** A piece of metadata with its bytes, as in vd.h's TRAVERSEMETADATA. */
export interface MetadataChunk {
  readonly file: string;
  /** Bytes in that file. */
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** Kind of metadata, for people: `header`, `block map`. */
  readonly what: string;
  /** Unit that it belongs to; null for metadata of the whole image. */
  readonly guestOffset: number | null;
}

/** Metadata of an image with its bytes, in pieces of at most 1 MiB. Ranges past the end of the file are skipped. */
export async function* metadataOf(image: Image, { perUnit = false }: MetadataOptions): AsyncGenerator<MetadataChunk> {
  for await (const extent of image.metadata({ perUnit })) yield* chunksOf(extent);
}

async function* chunksOf({
  storage,
  fileOffset: offset,
  length,
  what,
  guestOffset,
}: MetadataExtent): AsyncGenerator<MetadataChunk> {
  const end = Math.min(offset + length, storage.size);
  for (let at = offset; at < end; at += CHUNK) {
    const bytes = new Uint8Array(Math.min(CHUNK, end - at));
    await readPadded(storage, at, bytes);
    yield { file: storage.label, offset: at, bytes, what, guestOffset };
  }
}

/** Bytes on the host of all these files of an image, and what the host really keeps; null when unknown. */
export async function hostSizes(
  storages: readonly Storage[],
): Promise<{ fileSize: number; allocatedSize: number | null }> {
  let fileSize = 0;
  let allocatedSize: number | null = 0;
  for (const storage of storages) {
    const { allocatedSize: allocated, hostSize = storage.size } = await storage.identity();
    fileSize += hostSize;
    allocatedSize = allocatedSize === null || allocated === null ? null : allocatedSize + allocated;
  }
  return { fileSize, allocatedSize };
}

/** A description of a chain for people, base first: vd.h's VDDumpImages. Not for programs: it may change. */
export async function dumpChain(images: readonly ChainImage[]): Promise<string> {
  const lines = [`${images.length} ${images.length === 1 ? 'image' : 'images'}, base first`];
  for (const [number, entry] of images.entries()) {
    lines.push('', `image ${number}: ${printable(entry.name)} (${entry.format})`);
    for (const line of await factsOf(entry)) lines.push(line);
  }
  return `${lines.join('\n')}\n`;
}

async function factsOf({ image, settings }: ChainImage): Promise<string[]> {
  const { regions, geometry, warnings, parent: _parent, details, ...facts } = image.info;
  const geometries = [geometry.physical, geometry.logical].map((one) =>
    one === null ? 'none' : `${one.cylinders}/${one.heads}/${one.sectors}`,
  );
  const rows: Record<string, unknown> = {
    ...facts,
    ...details,
    ...(await hostSizes(image.storages())),
    openFor: image.can.write ? 'write' : 'read',
    asked: JSON.stringify(settings),
    physicalGeometry: geometries[0],
    logicalGeometry: geometries[1],
    regions: `${regions.regions.length} (${regions.unit})`,
    metadata: await metadataText(image),
  };
  const shown = Object.entries(rows).filter(([, value]) => value !== null && value !== '');
  return [
    ...shown.map(([name, value]) => `  ${name}: ${printable(Array.isArray(value) ? value.join(', ') : String(value))}`),
    ...warnings.map((warning) => `  warning: ${printable(warning)}`),
  ];
}

/** Dumps are mostly needed for damaged images, so unreadable metadata is skipped. */
async function metadataText(image: Image): Promise<string> {
  const found: string[] = [];
  try {
    for await (const { what, fileOffset: offset, length } of image.metadata({ perUnit: false })) {
      found.push(`${what} ${length} bytes at ${offset}`);
    }
  } catch (error) {
    if (!isImageError(error)) throw error;
    found.push(error.message);
  }
  return found.join('; ');
}
