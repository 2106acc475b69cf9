/**
 * Images inside compressed files and archives: what is inside is found by the format of the outer file, unpacked where it
 * cannot be read in place, and probed again. Loaded when a file turns out to be one. For reading only.
 */
import { unpackedFile } from '#local-storage';
import { assert, ImageError, isImageError, printable, throwIfAborted, withContext } from '../../errors.ts';
import type { Format } from '../../image/contract.ts';
import { AS_RAW, probeFormat, readProbeInput } from '../../image/probe.ts';
import type { InnerChunks, UnwrapOptions, Unwrapped } from '../../image/unwrap.ts';
import { LIMITS } from '../../limits.ts';
import { readOnlyStorage } from '../../storage/checks.ts';
import type { Source, Storage, Wrapping } from '../../storage/contract.ts';
import { forwardedStorage } from '../../storage/forwarding.ts';
import { baseName } from '../../storage/gate.ts';
import { ReadOnceStorage } from '../../storage/read-once.ts';
import { StorageView } from '../../storage/view.ts';
import type { Environment } from './environment.ts';
import { type ImageFile, type OpenedImage, withImageFile } from './image-file.ts';
import type { OpenImageOptions, UnwrapOnce } from './open-image.ts';

/** The innermost file of a file. */
export interface InnerSource extends Source {
  /** Closing it closes the outer file, too. */
  readonly storage: Storage;
}

/** Options for finding what is inside. */
export interface FindInsideOptions {
  readonly environment: Environment;
  /** See {@link UnwrapOptions.verify}. */
  readonly verify?: boolean | undefined;
  readonly once?: UnwrapOnce | undefined;
}

/**
 * Opens what is inside `outer`, the file of `source`, whose format has `unwrap`. The result belongs to the caller; after a
 * failure `outer` is left open.
 */
export async function openInside(
  source: Source,
  outer: Storage,
  format: Format,
  { environment, verify, once }: FindInsideOptions,
): Promise<InnerSource> {
  const wrappings: Wrapping[] = [];
  const warnings: string[] = [];
  const opened: Storage[] = [];
  let isMember = false;
  let [storage, name, current] = [outer, baseName(source.name, source.provider.directory(source.name)), format];
  try {
    let wanted = source.member;
    while (current.unwrap !== undefined) {
      if (wrappings.length === LIMITS.wrappings) throw tooDeep(source.name, wrappings, current);
      const how = unwrapOptions(name, wanted, environment);
      const inner = await current.unwrap(storage, { ...how, verify });
      const { content } = inner;
      wanted = inner.rest;
      isMember ||= inner.isArchive === true;
      for (const text of inner.warnings) warnings.push(text);
      if ('decode' in content) {
        storage = await unpack(storage, inner, content, { environment, warnings, label: outer.label, once });
        opened.push(storage);
      } else if ('storage' in content) {
        storage = content.storage;
      } else {
        storage = new StorageView(storage, { offset: content.offset, limit: content.length, mode: 'read' });
      }
      wrappings.push({ format: current.name, member: inner.member });
      name = inner.name;
      if (storage.size === 0) throw nothingInside(source.name, inner.member);
      current = probeFormat(await readProbeInput(storage, name), environment.registry).format;
    }
    if (wanted !== undefined) throw noMembers(source.name, wanted, current);
  } catch (error) {
    for (const one of opened) await one.close();
    const damaged = isImageError(error) && error.kind === 'corrupt';
    const hint = damaged ? `Get an intact copy of the file; or ${AS_RAW}.` : undefined;
    throw withContext(error, { path: source.name, hint });
  }
  const { provider } = source;
  const unpacked = { name, wrappings, warnings, isMember, fileSize: outer.size };
  return { provider, name: source.name, storage: combined(outer, storage, opened), unpacked };
}

/** Opens the image inside of a file with `open`. */
export async function openInner(
  file: ImageFile,
  format: Format,
  options: OpenImageOptions,
  open: (source: Source, options: OpenImageOptions) => Promise<OpenedImage>,
): Promise<OpenedImage> {
  const { storage, source } = file;
  assert(storage !== null, 'directories are not unwrapped');
  const { environment, infoOnly, unwrap } = options;
  const once = typeof unwrap === 'object' ? unwrap : undefined;
  const inner = await openInside(source, storage, format, { environment, verify: infoOnly !== true, once });
  file.release();
  const { unpacked } = inner;
  const opened = await open(inner, { ...options, owned: true, onOpen: undefined }).catch(async (error: unknown) => {
    await inner.storage.close();
    throw error;
  });
  return { ...opened, source: { ...source, member: source.member ?? unpacked?.wrappings[0]?.member, unpacked } };
}

/**
 * Content of the file of a source, open for reading; null for other files, and for what is inside and not supported:
 * opening it tells the reason. `format`: the one that was named, of the image.
 */
export async function insideOf(
  source: Source,
  { environment, format }: { readonly environment: Environment; readonly format?: string | undefined },
): Promise<InnerSource | null> {
  if (source.configuration !== undefined || (format !== undefined && source.member === undefined)) return null;
  return withImageFile(source, { environment, mode: 'read', infoOnly: true }, async (file) => {
    if (file.storage === null || file.storage.size === 0) return null;
    const outer = await file.probe();
    if (outer.format.unwrap === undefined) return null;
    try {
      const inner = await openInside(source, file.storage, outer.format, { environment });
      file.release();
      return inner;
    } catch (error) {
      if (isImageError(error) && error.kind === 'unsupported') return null;
      throw error;
    }
  });
}

function unwrapOptions(name: string, member: string | undefined, { registry, signal }: Environment): UnwrapOptions {
  const isDisk = (one: string): boolean => {
    const format = registry.byExtension(one);
    return format !== undefined && (format.capabilities.read || format.unwrap !== undefined);
  };
  return { name, member, signal, isDisk };
}

interface UnpackHow {
  readonly environment: Environment;
  readonly warnings: string[];
  /** Name of the outer file for messages. */
  readonly label: string;
  readonly once: UnwrapOnce | undefined;
}

async function unpack(
  from: Storage,
  { member, name }: Unwrapped,
  content: InnerChunks,
  { environment, warnings, label, once }: UnpackHow,
): Promise<Storage> {
  const { signal } = environment;
  from.adviseSequential?.();
  const notices: string[] = [];
  let chunks: AsyncIterable<Uint8Array> = bounded(
    content.decode((text) => void notices.push(`${label}: ${text}`)),
    signal,
  );
  if (once !== undefined && content.expectedSize !== undefined) {
    const { passingStorage } = await import('./pass.ts');
    const passing = await passingStorage(chunks, content, {
      label: `${label} (${member})`,
      storedBytes: from.size,
      name,
      environment,
      once,
      isNoticed: () => notices.length > 0,
    });
    if (passing instanceof ReadOnceStorage) return passing;
    chunks = passing;
  }
  const { storage, directory } = await unpackedFile(chunks, { label: `${label} (${member})`, signal });
  for (const notice of notices) warnings.push(notice);
  warnings.push(
    `${label} was unpacked into a temporary file in ${directory} (${storage.size} bytes), which disappears when it is closed.`,
  );
  return storage;
}

/** The length of what is unpacked is bounded, not its ratio: a disk may be all zeroes. */
async function* bounded(
  chunks: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const chunk of chunks) {
    throwIfAborted(signal, 'Unpacking');
    length += chunk.length;
    if (length > LIMITS.unpackedBytes) {
      throw new ImageError('limit', 'The file unpacks to too much', {
        expected: `at most ${LIMITS.unpackedBytes} bytes`,
        hint: 'Unpack it first, if it is from a source that you trust.',
      });
    }
    yield chunk;
  }
}

/** The inner bytes with the identity, the rights and the lock of the outer file. */
function combined(outer: Storage, inner: Storage, opened: readonly Storage[]): Storage {
  const refuse = async (): Promise<never> => {
    throw readOnlyStorage(outer.label);
  };
  return forwardedStorage(inner, {
    can: { ...inner.can, write: false, resize: false, punch: false },
    write: refuse,
    zero: refuse,
    resize: refuse,
    flush: async () => {},
    identity: (options) => outer.identity(options),
    attributes: async (options) => (await outer.attributes?.(options)) ?? null,
    place: async (options) => (await outer.place?.(options)) ?? null,
    lock: (mode, how, options) => outer.lock(mode, how, options),
    lockState: (options) => outer.lockState(options),
    async close() {
      for (const one of opened) await one.close();
      await outer.close();
    },
  });
}

function tooDeep(path: string, wrappings: readonly Wrapping[], { name }: Format): ImageError {
  return new ImageError('limit', 'The image lies inside too many files', {
    path,
    found: [...wrappings.map(({ format }) => format), name].join(' in '),
    expected: `at most ${LIMITS.wrappings}`,
    hint: 'Unpack the outermost first.',
  });
}

function noMembers(path: string, found: string, { name }: Format): ImageError {
  return new ImageError('not-found', 'The file inside has no members to choose from', {
    path,
    found: printable(found),
    hint: `It is of format ${name}: omit the member.`,
  });
}

function nothingInside(path: string, member: string): ImageError {
  return new ImageError('invalid-format', 'The file inside is empty', { path, found: member });
}
