/**
 * The one way to open the file of an image: through the gate if an image refers to it, locked, and only then probed.
 * The format gets the probed handle, not the name, so nothing can be swapped in between.
 */
import type { Format, Image } from '../../image/contract.ts';
import { OpenedFiles } from '../../image/files.ts';
import {
  type ProbeOutcome,
  probeDirectory,
  probeFormat,
  readDirectoryInput,
  readProbeInput,
} from '../../image/probe.ts';
import { readOnlyStorage } from '../../storage/checks.ts';
import type { LockMode, LockOptions, OpenMode, Source, Storage } from '../../storage/contract.ts';
import { baseName, type OpenGate } from '../../storage/gate.ts';
import { keptOpen } from '../../storage/kept-open.ts';
import { SignalledStorage } from '../../storage/signalled.ts';
import type { ImageSettings, SharingOptions } from '../options.ts';
import type { ChainImage } from '../path/chain.ts';
import type { Environment } from './environment.ts';
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
  /** The directory whose list has the file as one of its images. */
  readonly listedIn?: ListedIn | undefined;
}

/** A directory that lists a file as one of its images. */
export interface ListedIn {
  readonly directory: string;
  /** The file has a parent there, without which it shows too little. */
  readonly hasParent: boolean;
}

/** The image that refers to a file, and the gate that decides about it. */
export interface NamedBy {
  readonly gate: OpenGate;
  readonly from: Source;
  /** Role for messages of the gate: `parent image`. */
  readonly role: string;
}

/** Options for opening the file of an image. */
export interface ImageFileOptions extends SharingOptions {
  readonly environment: Environment;
  readonly mode: OpenMode;
  /** Headers only, without a lock: for reports. */
  readonly infoOnly?: boolean | undefined;
  /** Default: `exclusive` for writing, `shared` for reading. */
  readonly lockMode?: LockMode | undefined;
  /** Default: the file was named by the user. */
  readonly namedBy?: NamedBy | undefined;
  /** Replaces the gate of the image itself. Default: that of the environment. */
  readonly gate?: OpenGate | undefined;
  /** The open file of the source belongs to the image. Default: it stays open. */
  readonly owned?: boolean | undefined;
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

/** Target of a source: a file, or a directory or configuration. */
interface Found {
  readonly source: Source;
  /** Null: a directory or a configuration. */
  readonly storage: Storage | null;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** For a directory: the reason for rejecting it if no format accepts it. */
  readonly refusal: unknown;
  /** The place of a directory that another image names, with all links resolved, as the gate judged it. */
  readonly place?: string | undefined;
}

/** The file of an image, open, judged and locked; or a directory or configuration, whose files its format asks for. */
export class ImageFile {
  readonly source: Source;
  readonly storage: Storage | null;
  /** As {@link StorageIdentity.key}. */
  readonly key: string;
  /** Gate for the files that the image refers to. */
  readonly gate: OpenGate;
  readonly files: OpenedFiles;
  readonly #options: ImageFileOptions;
  readonly #refusal: unknown;
  #owned = true;

  constructor({ source, storage, key, refusal }: Found, gate: OpenGate, options: ImageFileOptions) {
    this.source = source;
    this.storage = storage;
    this.key = key;
    this.gate = gate;
    this.files = this.filesAs(storage, lockOf(options));
    this.#options = options;
    this.#refusal = refusal;
  }

  /** Lock of its files; null: none. */
  get locking(): LockOptions | null {
    return lockOf(this.#options);
  }

  get isDirectory(): boolean {
    return this.storage === null && this.source.configuration === undefined;
  }

  /** The files of the image with another handle for the main one, or other locks. */
  filesAs(main: Storage | null, lock: LockOptions | null): OpenedFiles {
    const { source, gate, isDirectory } = this;
    return new OpenedFiles({ source, main, isDirectory, gate, lock });
  }

  /** Probes the content. */
  async probe(): Promise<ProbeOutcome> {
    const { registry } = this.#options.environment;
    const { storage, source } = this;
    if (storage !== null) {
      return probeFormat(await readProbeInput(storage, source.unpacked?.name ?? source.name), registry);
    }
    const outcome = probeDirectory(await readDirectoryInput(source), registry);
    if (outcome === null) throw this.#refusal;
    return outcome;
  }

  /** Refuses a directory where the format, which was named, keeps its images in files. */
  requireFitting(format: Format): void {
    if (this.isDirectory && format.probeDirectory === undefined) throw this.#refusal;
  }

  /** Opens the image, which takes over the file. */
  async open({ format, ...chosen }: ChosenFormat, { settings = {}, withoutData }: AsImage): Promise<OpenedImage> {
    const { mode, infoOnly = false, environment } = this.#options;
    const { signal } = environment;
    const { type, config, snapshot } = settings;
    const image = await format.open(this.files, {
      mode,
      infoOnly,
      signal,
      withoutData,
      type,
      config,
      snapshot,
      member: this.source.member,
    });
    // What is done with the image from now on has other signals.
    this.release();
    // What a format opens elsewhere went past the locks of its files.
    if (this.source.configuration !== undefined) await lockAll(image, this.#options);
    if (!infoOnly) adviseSequential(image, settings);
    const { gate, isDirectory } = this;
    // What is written may be another image when this one is opened again.
    const member = image.member?.id;
    const key = member === undefined ? this.key : `${this.key}#${member}`;
    const source = isDirectory ? { ...this.source, isDirectory, member } : this.source;
    const warnings = [...(source.unpacked?.warnings ?? []), ...chosen.warnings, ...image.info.warnings];
    return { ...chosen, warnings, format: format.name, image, name: source.name, key, source, settings, gate };
  }

  /** Leaves the open file to the caller. */
  release(): void {
    this.#owned = false;
    if (this.storage instanceof SignalledStorage) this.storage.settle();
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
  const found = await find(source, options);
  const { storage } = found;
  const early = storage === null ? undefined : options.onOpen?.(storage);
  let file: ImageFile | null = null;
  try {
    if (storage !== null) await lock(storage, options);
    const key = storage === null ? found.key : (await storage.identity()).key;
    const gate = options.gate ?? (await options.environment.gateOf(found.source, storage, found.place));
    file = new ImageFile({ ...found, key }, gate, options);
    return await use(file);
  } finally {
    await early;
    await (file ?? storage)?.close();
  }
}

async function find(named: Source, options: ImageFileOptions): Promise<Found> {
  const { configuration } = named;
  const source = options.namedBy === undefined ? await wholeOf(named, options.environment) : named;
  if (configuration !== undefined) {
    return { source, storage: null, key: `${configuration.format}:${configuration.location}`, refusal: null };
  }
  try {
    return { source, storage: await openStorage(source, options), key: '', refusal: null };
  } catch (refusal) {
    // Seldom needed: a page that inspects files does without it.
    const { findDirectory } = await import('./directory.ts');
    const directory = await findDirectory(source, options, refusal);
    if (directory === null) throw refusal;
    return { source, storage: null, refusal, ...directory };
  }
}

/** The directory that is the image, for a name of the file in it that names the others; other sources as they are. */
export async function wholeOf(source: Source, { registry }: Environment): Promise<Source> {
  const { provider, name, configuration, storage } = source;
  if (configuration !== undefined || storage !== undefined) return source;
  const base = baseName(name, provider.directory(name));
  if (!registry.formats.some(({ directoryMain }) => directoryMain === base)) return source;
  const whole: Source = { provider, name: provider.directory(name) };
  if ((await provider.lookUp(name))?.kind !== 'file') return source;
  return probeDirectory(await readDirectoryInput(whole), registry) === null ? source : whole;
}

async function openStorage(source: Source, options: ImageFileOptions): Promise<Storage> {
  const { signal } = options.environment;
  const storage = await openPlain(source, options);
  return signal === undefined ? storage : new SignalledStorage(storage, signal, 'Opening');
}

async function openPlain(source: Source, { mode, namedBy, owned }: ImageFileOptions): Promise<Storage> {
  const { provider, name, storage } = source;
  if (storage !== undefined) return owned === true ? storage : shared(storage, mode);
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

async function lockAll(image: Image, options: ImageFileOptions): Promise<void> {
  try {
    for (const storage of image.storages()) await lock(storage, options);
  } catch (error) {
    await image.close();
    throw error;
  }
}

function adviseSequential(image: Image, { sequential }: ImageSettings): void {
  if (sequential !== true) return;
  for (const storage of image.storages()) storage.adviseSequential?.();
}
