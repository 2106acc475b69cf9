/** Apple's sparse bundles: opening one. Loaded when it is first used. */
import { hasText } from '../../binary/look.ts';
import { ImageError, isImageError } from '../../errors.ts';
import type { Image } from '../../image/contract.ts';
import type { ImageFiles } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import { BandFiles, listBands } from './bands.ts';
import { type BundleFacts, readFacts } from './facts.ts';
import { SparseBundle } from './image.ts';
import { ENCRYPTED_END, ENCRYPTED_START, LIST, LIST_COPY, TOKEN } from './layout.ts';

/** Opens a bundle. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`. */
export async function open(files: ImageFiles): Promise<Image> {
  if (files.main !== null) throw notDirectory(files);
  const names = new Set<string>();
  for await (const name of files.list()) names.add(/[^/\\]*$/.exec(name)?.[0] ?? '');
  if (names.has(TOKEN)) await refuseEncrypted(files);
  const { list, facts, warnings } = await openList(files, names);
  const bands = await listBands(files, facts);
  return new SparseBundle({ list, facts, bands, files: new BandFiles(list, files, bands, facts), warnings });
}

function notDirectory({ name }: ImageFiles): ImageError {
  return new ImageError('unsupported', 'A sparse bundle is a directory, and this is a file', {
    path: name,
    hint: `Specify the directory that has ${LIST} and the bands in it.`,
  });
}

interface OpenList {
  readonly list: Storage;
  readonly facts: BundleFacts;
  readonly warnings: readonly string[];
}

/** Opens the property list, or its copy where the list itself is missing or damaged. */
async function openList(files: ImageFiles, names: ReadonlySet<string>): Promise<OpenList> {
  const read = async (name: string): Promise<OpenList> => {
    const list = await files.open({ name, role: 'property list', part: true }, 'read');
    try {
      return { list, facts: await readFacts(list), warnings: [] };
    } catch (error) {
      await list.close();
      throw error;
    }
  };
  try {
    return await read(LIST);
  } catch (error) {
    const isLost = isImageError(error) && ['not-found', 'corrupt', 'invalid-format'].includes(error.kind);
    if (!isLost || !names.has(LIST_COPY)) throw error;
    const copied = await read(LIST_COPY).catch(() => null);
    if (copied === null) throw error;
    const warning = `${LIST} is missing or damaged; its copy ${LIST_COPY} is used instead.`;
    return { ...copied, warnings: [warning] };
  }
}

async function refuseEncrypted(files: ImageFiles): Promise<void> {
  const storage = await files.open({ name: TOKEN, role: 'token', part: true, passing: true }, 'read');
  try {
    const head = await ends(storage, 0, ENCRYPTED_START.length);
    const tail = await ends(storage, storage.size - ENCRYPTED_END.length, ENCRYPTED_END.length);
    if (!hasText(head, 0, ENCRYPTED_START) && !hasText(tail, 0, ENCRYPTED_END)) return;
  } finally {
    await storage.close();
  }
  throw new ImageError('unsupported', 'The sparse bundle is encrypted, and vdkit cannot open it', {
    path: files.name,
    hint: 'Decrypt it first (hdiutil convert -format UDSB).',
  });
}

/** Bytes of a file; none where it is shorter. */
async function ends(storage: Storage, offset: number, length: number): Promise<Uint8Array> {
  if (offset < 0 || offset + length > storage.size) return new Uint8Array(0);
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}
