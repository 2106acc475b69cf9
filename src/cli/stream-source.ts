/** Standard input as a source: formats need random access, so it is spooled to an unnamed temporary file first. */
import { stdinSpool } from '#local-storage';
import { Environment } from '../disk/open/environment.ts';
import type { ConvertOptions } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import type { Source, Storage } from '../storage/contract.ts';
import { forwardedProvider, forwardedStorage } from '../storage/forwarding.ts';
import { stageTarget } from '../storage/staging.ts';
import type { CommandContext } from './context.ts';

const NAME = 'standard input';

/** Spooled standard input; dispose of it to free the space. */
export interface SpooledInput extends AsyncDisposable {
  readonly source: Source;
}

/** Reads standard input to its end. A target that could not be created is rejected first. */
export async function spooledInput(
  context: CommandContext,
  target: { readonly name: string; readonly options: ConvertOptions } | null,
): Promise<SpooledInput> {
  if (target !== null) {
    const { name, options } = target;
    // Only looks; nothing is made until something is written.
    const staged = await stageTarget(Environment.of(options).sourceOf(name), {
      force: options.force ?? false,
      lock: options.lock ?? true,
    });
    await staged.discard();
  }
  const stream = context.io.stdin();
  if ('isTTY' in stream && stream.isTTY === true) {
    context.note('Reading the image from the terminal; end it with Ctrl-D.');
  }
  // A silent pipe would not notice an interrupt by itself.
  const stop = (): void => void stream.destroy(new ImageError('aborted', 'Reading standard input was cancelled'));
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    const storage = await stdinSpool(stream, {
      label: NAME,
      signal: context.signal,
      onBytes: (done) => context.progress.report?.({ operation: 'read', done, total: null }),
    });
    if (storage.size === 0) throw await nothingCame(storage);
    return { source: spooledSource(storage), [Symbol.asyncDispose]: () => storage.close() };
  } finally {
    context.signal.removeEventListener('abort', stop);
  }
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
function spooledSource(storage: Storage): Source {
  const { name: own, provider }: Source = Environment.of({}).sourceOf(NAME);
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
