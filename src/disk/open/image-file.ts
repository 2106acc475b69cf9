/**
 * The one way to open the file of an image: through the gate if an image refers to it, locked, and only then probed.
 * The format gets the probed handle, not the name, so nothing can be swapped in between.
 */
import type { Format, Image } from '../../image/contract.ts';
import { OpenedFiles } from '../../image/files.ts';
import { type ProbeOutcome, probeFormat, readProbeInput } from '../../image/probe.ts';
import { readOnlyStorage } from '../../storage/checks.ts';
import type { LockMode, LockOptions, OpenMode, Source, Storage } from '../../storage/contract.ts';
import type { OpenGate } from '../../storage/gate.ts';
import { keptOpen } from '../../storage/kept-open.ts';
import type { EnvironmentOptions, ImageSettings, SharingOptions } from '../options.ts';
import type { ChainImage } from '../path/chain.ts';
import { gateOf, registryOf } from './environment.ts';
import { takesLocks } from './locking.ts';

/** An open image, with facts for reports. */
export interface OpenedImage extends ChainImage {
  /** Reason for choosing this format. */
  readonly recognisedBy: string;
  /** True when nothing identifies the file and its format was not named: treated as a raw disk. */
  readonly guessed: boolean;
  readonly warnings: readonly string[];
  /** Gate for the files that the image refers to. */
  readonly gate: OpenGate;
}

/** The image that refers to a file, and the gate that decides about it. */
export interface NamedBy {
  readonly gate: OpenGate;
  readonly from: Source;
  /** Role for messages of the gate: `parent image`. */
  readonly role: string;
}

/** Options for opening the file of an image. */
export interface ImageFileOptions extends EnvironmentOptions, SharingOptions {
  readonly mode: OpenMode;
  /** Headers only, without a lock: for reports. */
  readonly infoOnly?: boolean | undefined;
  /** Default: `exclusive` for writing, `shared` for reading. */
  readonly lockMode?: LockMode | undefined;
  /** Default: the file was named by the user. */
  readonly namedBy?: NamedBy | undefined;
  /** Replaces the gate of the image itself. Default: the one described by `allow`. */
  readonly gate?: OpenGate | undefined;
  /** Called with the open file, before anything else. Must not reject. The file stays open until it resolves. */
  readonly onOpen?: ((storage: Storage) => Promise<void>) | undefined;
}

/** The format of a file, with the reason. */
export interface ChosenFormat {
  readonly format: Format;
  readonly recognisedBy: string;
  readonly guessed: boolean;
  readonly warnings: readonly string[];
}

/** Options for opening the image. */
export interface AsImage {
  /** Options that stay with the image. */
  readonly settings?: ImageSettings | undefined;
  /** See {@link FormatOpenOptions.withoutData}. */
  readonly withoutData?: boolean | undefined;
}

/** The file of an image: open, admitted and locked. */
export class ImageFile {
  readonly source: Source;
  readonly storage: Storage;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** Gate for the files that the image refers to. */
  readonly gate: OpenGate;
  readonly files: OpenedFiles;
  readonly #options: ImageFileOptions;
  #owned = true;

  constructor(source: Source, storage: Storage, found: { key: string; gate: OpenGate }, options: ImageFileOptions) {
    this.source = source;
    this.storage = storage;
    this.key = found.key;
    this.gate = found.gate;
    this.files = new OpenedFiles({ source, main: storage, gate: found.gate, lock: lockOf(options) });
    this.#options = options;
  }

  /** Probes the content. */
  async probe(): Promise<ProbeOutcome> {
    return probeFormat(await readProbeInput(this.storage, this.source.name), registryOf(this.#options));
  }

  /** Opens the image, which takes over the file. */
  async open({ format, ...chosen }: ChosenFormat, { settings = {}, withoutData }: AsImage): Promise<OpenedImage> {
    const { mode, infoOnly = false, signal } = this.#options;
    const { type, config, snapshot } = settings;
    const image = await format.open(this.files, {
      mode,
      infoOnly,
      signal,
      withoutData,
      type,
      config,
      snapshot,
    });
    this.#owned = false;
    if (!infoOnly) adviseSequential(image, settings);
    const { source, key, gate } = this;
    const warnings = [...chosen.warnings, ...image.info.warnings];
    return { ...chosen, warnings, format: format.name, image, name: source.name, key, source, settings, gate };
  }

  /** Closes the file unless an image has taken it over. */
  async close(): Promise<void> {
    if (this.#owned) await this.files.close();
  }
}

/**
 * Opens and locks the file of an image. It is closed when `use` ends, unless opened as an image. Throws `denied` when
 * the gate rejects it, `locked`.
 */
export async function withImageFile<T>(
  source: Source,
  options: ImageFileOptions,
  use: (file: ImageFile) => Promise<T>,
): Promise<T> {
  const storage = await openStorage(source, options);
  const early = options.onOpen?.(storage);
  let file: ImageFile | null = null;
  try {
    await lock(storage, options);
    const { key } = await storage.identity();
    const gate = options.gate ?? (await gateOf(options.allow, source, storage));
    file = new ImageFile(source, storage, { key, gate }, options);
    return await use(file);
  } finally {
    await early;
    await (file ?? storage).close();
  }
}

async function openStorage(source: Source, { mode, namedBy }: ImageFileOptions): Promise<Storage> {
  const { provider, name, storage } = source;
  if (storage !== undefined) return shared(storage, mode);
  if (namedBy === undefined) return provider.open(name, mode);
  const { gate, from, role } = namedBy;
  return gate.open({ name, role }, from, mode);
}

/** A file that was open before stays open afterwards. */
function shared(storage: Storage, mode: OpenMode): Storage {
  if (mode === 'write' && !storage.can.write) throw readOnlyStorage(storage.label);
  return keptOpen(storage).storage;
}

/** Opens and locks a file of a disk that is not an image; closes it when `use` fails. */
export async function openLocked<T>(
  source: Source,
  options: ImageFileOptions,
  use: (storage: Storage) => Promise<T>,
): Promise<T> {
  const storage = await openStorage(source, options);
  try {
    await lock(storage, options);
    return await use(storage);
  } catch (error) {
    await storage.close();
    throw error;
  }
}

function lockOf(options: ImageFileOptions): LockOptions | null {
  if (options.infoOnly === true || !takesLocks(options)) return null;
  return { shareable: options.shareable ?? false };
}

async function lock(storage: Storage, options: ImageFileOptions): Promise<void> {
  const how = lockOf(options);
  const { mode, lockMode = mode === 'write' ? 'exclusive' : 'shared' } = options;
  if (how !== null) await storage.lock(lockMode, how);
}

function adviseSequential(image: Image, { sequential }: ImageSettings): void {
  if (sequential !== true) return;
  for (const storage of image.storages()) storage.adviseSequential?.();
}
