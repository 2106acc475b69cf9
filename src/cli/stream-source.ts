/**
 * Standard input as a source. An image whose format reads forwards is read as it comes; others need random access, so
 * they are spooled to an unnamed temporary file first.
 */
import { stdinSpool, systemError } from '#local-storage';
import { Environment } from '../disk/open/environment.ts';
import type { ConvertOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import { type ForwardDisk, openForwards } from '../operations/forward-disk.ts';
import { ByteStream } from '../storage/byte-stream.ts';
import type { Source, Storage } from '../storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../storage/forwarding.ts';
import { stageTarget } from '../storage/staging.ts';
import type { CommandContext } from './context.ts';
import { registryOf } from './registry.ts';

const NAME = 'standard input';

/** Standard input as a source; dispose of it to free the space. */
export interface StandardInput extends AsyncDisposable {
  readonly source: Source | ForwardDisk;
}

/** Options for reading standard input. */
export interface InputUse {
  /** A target that could not be created is rejected before anything is read. */
  readonly target: { readonly name: string; readonly options: ConvertOptions } | null;
  /** Null: it must be read at random. Otherwise the format that was named, if one was. */
  readonly forwards: { readonly format: string | undefined } | null;
}

/** Standard input as the disk of a format that reads forwards; otherwise, read to its end, as a file. */
export async function standardInput(context: CommandContext, { target, forwards }: InputUse): Promise<StandardInput> {
  if (target !== null) await refuseTarget(target);
  const { signal } = context;
  const stream = context.io.stdin();
  if ('isTTY' in stream && stream.isTTY === true) {
    context.note('Reading the image from the terminal; end it with Ctrl-D.');
  }
  // A silent pipe would not notice an interrupt by itself.
  const stop = (): void => void stream.destroy(new ImageError('aborted', 'Reading standard input was cancelled'));
  signal.addEventListener('abort', stop, { once: true });
  const dispose = (): void => {
    signal.removeEventListener('abort', stop);
    // After a failure nothing waits for the rest.
    stream.destroy();
  };
  try {
    const bytes = new ByteStream(chunksOf(stream), NAME, { signal });
    const disk =
      forwards === null ? null : await openForwards(bytes, { ...forwards, environment: await environmentOf(context) });
    if (disk !== null) return { source: disk, [Symbol.asyncDispose]: async () => dispose() };
    const storage = await spooled(context, bytes);
    dispose();
    return { source: await spooledSource(storage), [Symbol.asyncDispose]: () => storage.close() };
  } catch (error) {
    dispose();
    throw error;
  }
}

function environmentOf(context: CommandContext): Promise<Environment> {
  return Environment.of({ registry: registryOf(context), signal: context.signal });
}

/** Only looks; nothing is made until something is written. */
async function refuseTarget({ name, options }: NonNullable<InputUse['target']>): Promise<void> {
  const staged = await stageTarget((await Environment.of(options)).sourceOf(name), {
    force: options.force ?? false,
    lock: options.lock ?? true,
  });
  await staged.discard();
}

/** A failure of the pipe in the words of this program. */
async function* chunksOf(stream: AsyncIterable<Uint8Array | string>): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of stream) yield typeof chunk === 'string' ? new TextEncoder().encode(chunk) : chunk;
  } catch (error) {
    throw systemError(error, { path: NAME });
  }
}

async function spooled(context: CommandContext, bytes: ByteStream): Promise<Storage> {
  const storage = await stdinSpool(bytes.rest(), {
    label: NAME,
    signal: context.signal,
    onBytes: (done) => context.progress.report?.({ operation: 'read', done, total: null }),
  });
  if (storage.size === 0) throw await nothingCame(storage);
  return storage;
}

/** A program that failed leaves an empty stream: that is not a disk of 0 bytes. */
async function nothingCame(storage: Storage): Promise<ImageError> {
  await storage.close();
  return new ImageError('invalid-format', 'Nothing came through standard input', {
    path: NAME,
    hint: 'Check the command before the pipe.',
  });
}

/** A source without a directory: files it names are found only through `--allow`. */
async function spooledSource(storage: Storage): Promise<Source> {
  const { name: own, provider }: Source = (await Environment.of({})).sourceOf(NAME);
  return {
    name: own,
    provider: forwardedProvider(provider, {
      open: async (name, mode) => (name === own ? sharedHandle(storage) : provider.open(name, mode)),
      directory: (name) => (name === own ? NOWHERE : provider.directory(name)),
      realName: async (name) => {
        if (name === own) return name;
        if (name !== NOWHERE) return provider.realName(name);
        throw new ImageError('denied', 'An image from standard input has no directory to search for its parent', {
          path: NAME,
          hint: 'Name the parent with --parent.',
        });
      },
    }),
  };
}

const NOWHERE = '(standard input)';

/** Opening takes several steps that each close their handle; the one temporary file must outlive them. */
function sharedHandle(storage: Storage): Storage {
  return forwardedStorage(storage, {
    can: { ...storage.can, write: false, resize: false },
    write: () => Promise.reject(readOnly()),
    zero: () => Promise.reject(readOnly()),
    resize: () => Promise.reject(readOnly()),
    allocate: () => Promise.reject(readOnly()),
    flush: async () => {},
    // Only this process has the temporary file; its owner and its place mean nothing.
    attributes: async () => null,
    place: async () => null,
    lock: async () => {},
    close: async () => {},
  });
}

function readOnly(): ImageError {
  return new ImageError('read-only', 'Standard input cannot be written', { path: NAME });
}
