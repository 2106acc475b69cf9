/** VISO files: the methods of the format, loaded when they are first used. */
import { BLOCK, SYSTEM_BLOCKS } from '../../blocks/iso9660/layout.ts';
import { type IsoPlan, planIso } from '../../blocks/iso9660/plan.ts';
import { IsoBytes } from '../../blocks/iso9660/storage.ts';
import { ImageError } from '../../errors.ts';
import type { FormatOpenOptions, Image, ImageInfo, Mapping, MetadataExtent } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { singleRegion } from '../../image/regions.ts';
import type { Storage } from '../../storage/contract.ts';
import { bootImages } from './boot.ts';
import { buildTrees, seal } from './build.ts';
import type { VisoCommand } from './command.ts';
import { openHost } from './host.ts';
import { readIsoSource } from './iso-source.ts';
import { VISO_LIMITS } from './limits.ts';
import { MARKER } from './marker.ts';
import { commandOf } from './parse.ts';
import { addTranslations } from './translation.ts';
import { wordsOf } from './words.ts';

/** Opens a VISO file: reads its text, looks at the files, and plans the image. Their data is read when it is asked for. */
export async function open(files: ImageFiles, options: FormatOpenOptions): Promise<Image> {
  const storage = mainFile(files);
  if (options.type !== undefined && options.type !== 'optical') {
    const about = { path: storage.label, status: 'VERR_NOT_SUPPORTED', found: options.type, expected: 'optical' };
    throw new ImageError('unsupported', 'A VISO file describes an optical disc', about);
  }
  const text = await readText(storage, VISO_LIMITS.textBytes);
  const marker = MARKER.exec(text);
  if (marker === null) {
    const about = { path: storage.label, status: 'VERR_VD_GEN_INVALID_HEADER' };
    throw new ImageError('invalid-format', 'This is not a VISO file: its marker is missing', about);
  }
  const [, kind = '', uuid = ''] = marker;
  const words = wordsOf(text, kind.toLowerCase().startsWith('-ms') ? 'ms' : 'bourne', storage.label);
  // The marker is one word with its UUID, or two.
  const own = words.slice(/[=:]/.test(words[0] ?? '') ? 1 : 2);
  const count = { entries: 0 };
  const command = await commandOf(own, storage.label, {
    words: (name) => wordsOfFile(files, name),
    iso: (name, views) => readIsoSource(files, name, views, count),
  });
  const plan = await planOf(command, files, options);
  const bytes = await IsoBytes.of(plan, (path) => openHost(files, path));
  return new VisoImage(storage, bytes, { uuid: uuid.toLowerCase(), plan, warnings: command.warnings });
}

/** The words of a file that the text names by `@`. */
async function wordsOfFile(files: ImageFiles, name: string): Promise<string[]> {
  const storage = await openHost(files, name);
  try {
    const text = await readText(storage, VISO_LIMITS.argumentBytes);
    return wordsOf(text, /^\s*--iprt-iso-maker-file-marker-ms/i.test(text) ? 'ms' : 'bourne', storage.label);
  } finally {
    await storage.close();
  }
}

async function planOf(command: VisoCommand, files: ImageFiles, options: FormatOpenOptions): Promise<IsoPlan> {
  const trees = await buildTrees(command, files, options);
  const { level, texts, rockRidge, pad, genericBoot } = command;
  if (command.transTables) addTranslations(trees.iso, level, files.name);
  const boot = await bootImages(trees, command, files);
  seal(trees);
  const { iso, joliet, catalog, newestMs } = trees;
  return planIso({
    root: iso,
    texts: texts.iso,
    createdMs: newestMs,
    level,
    joliet: joliet === null ? null : { root: joliet, level: command.jolietLevel, texts: texts.joliet },
    rockRidge,
    boot,
    catalog,
    system: genericBoot === null ? null : await systemArea(files, genericBoot),
    pad,
  });
}

async function readText(storage: Storage, most: number): Promise<string> {
  if (storage.size > most) {
    const expected = `at most ${most} bytes`;
    throw new ImageError('limit', 'The VISO file is too long', { path: storage.label, found: storage.size, expected });
  }
  const bytes = new Uint8Array(storage.size);
  if (bytes.length > 0) await storage.read(0, bytes);
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    // A letter that is replaced would make the name of another file.
    throw new ImageError('invalid-format', 'The VISO file is not text in UTF-8', { path: storage.label });
  }
}

async function systemArea(files: ImageFiles, path: string): Promise<Uint8Array> {
  const storage = await openHost(files, path);
  try {
    if (storage.size > SYSTEM_BLOCKS * BLOCK) {
      const expected = `at most ${SYSTEM_BLOCKS * BLOCK} bytes`;
      throw new ImageError('limit', 'The boot code does not fit into the system area', {
        path,
        found: storage.size,
        expected,
      });
    }
    const bytes = new Uint8Array(storage.size);
    if (bytes.length > 0) await storage.read(0, bytes);
    return bytes;
  } finally {
    await storage.close();
  }
}

interface VisoFacts {
  readonly uuid: string;
  readonly plan: IsoPlan;
  readonly warnings: readonly string[];
}

class VisoImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #bytes: IsoBytes;

  constructor(storage: Storage, bytes: IsoBytes, { uuid, plan, warnings }: VisoFacts) {
    super(storage);
    this.#bytes = bytes;
    this.info = plainInfo({
      format: 'viso',
      type: 'optical',
      virtualSize: bytes.size,
      blockSize: null,
      sectorSize: BLOCK,
      regions: singleRegion(bytes.size, BLOCK),
      uuid,
      warnings,
      details: { files: plan.contents.length },
    });
  }

  map(guestOffset: number, length: number): Mapping {
    return this.#bytes.map(guestOffset, length);
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    yield { storage, fileOffset: 0, length: storage.size, what: 'VISO file', guestOffset: null };
  }

  override async close(): Promise<void> {
    await this.#bytes.close();
    await this.storage.close();
  }
}
