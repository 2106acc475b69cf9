/** Standard output as a target, written from front to back, once: raw bytes, or an image of a format made for that. */
import { StreamStorage } from '#local-storage';
import type { BlockDevice, Extent } from '../disk/device.ts';
import { Environment } from '../disk/open/environment.ts';
import type { ConvertOptions, ConvertResult, DiskOpenOptions, ImageSource } from '../disk/options.ts';
import { ImageError } from '../errors.ts';
import { convert } from '../operations/convert.ts';
import { copyContent, PARALLEL_RUNS } from '../operations/copy-engine.ts';
import { refuseCut } from '../operations/cut.ts';
import { ForwardDisk } from '../operations/forward-disk.ts';
import { openDisk } from '../operations/open.ts';
import type { Source, Storage } from '../storage/contract.ts';
import { forwardedProvider } from '../storage/forwarding.ts';
import type { CommandContext } from './context.ts';
import { EXIT, OutputClosed } from './failure.ts';
import { isClosedPipe } from './output.ts';

/** Writes the content of `source` to standard output as raw bytes. */
export async function convertToStream(
  context: CommandContext,
  source: ImageSource | ForwardDisk,
  openOptions: DiskOpenOptions,
  config: ConvertOptions['sourceConfig'],
): Promise<ConvertResult> {
  const { options, signal } = context;
  const parallel = options.count('threads', { min: 1, max: 64 }) ?? PARALLEL_RUNS;
  const rateLimit = options.size('rate-limit') ?? 0;
  const wanted = options.size('size');
  const how = { ...openOptions, withoutDamagedParents: options.flag('salvage') };
  await using disk =
    source instanceof ForwardDisk
      ? source
      : await openDisk({ image: source, ...(config === undefined ? {} : { config }) }, how);
  const size = wanted ?? disk.size;
  await refuseCut(disk, { size, path: disk.label, shrink: options.flag('shrink'), signal });
  const target = new StreamDevice(new StreamStorage(context.io.stdout), size, signal);
  try {
    const { written, unreadable } = await copyContent(disk, target, {
      length: Math.min(size, disk.size),
      targetIsZero: true,
      sparseSize: 0,
      parallel,
      rateLimit,
      salvage: options.flag('salvage'),
      signal,
      operation: 'convert',
      onProgress: context.progress.report,
    });
    await target.flush();
    return { size, written, unreadable, warnings: disk.warnings };
  } catch (error) {
    throw quietly(error);
  }
}

/** Writes an image to standard output. Its format must be one that writes forwards. */
export async function convertToPipe(
  context: CommandContext,
  source: ImageSource | ForwardDisk,
  options: ConvertOptions,
): Promise<ConvertResult> {
  try {
    return await convert(source, await pipeTarget(new StreamStorage(context.io.stdout)), options);
  } catch (error) {
    throw quietly(error);
  }
}

/** Ends quietly when the reader has gone, but not as a success: the copy is incomplete. */
function quietly(error: unknown): unknown {
  return error instanceof Error && isClosedPipe(error.cause) ? new OutputClosed(EXIT.failed) : error;
}

/** A name of which nothing is there yet, and whose only file is the pipe. What was written cannot be taken back. */
async function pipeTarget(storage: Storage): Promise<Source> {
  const { name, provider } = (await Environment.of({})).sourceOf(storage.label);
  const staged = {
    create: async (): Promise<Storage> => storage,
    dress: async () => [],
    publish: async () => [],
    discard: async () => {},
  };
  const pipe = forwardedProvider(provider, {
    lookUp: async (wanted) => (wanted === name ? null : provider.lookUp(wanted)),
    stage: () => staged,
  });
  return { name, provider: pipe };
}

/** A pipe as a device: requests must arrive in guest order and are written one after another. */
class StreamDevice implements BlockDevice {
  readonly label: string;
  readonly size: number;
  readonly can = { write: true, zero: true, discard: false, random: false };
  readonly blockSize = 0;
  readonly #storage: Storage;
  readonly #stopped: Promise<never>;
  #last: Promise<void> = Promise.resolve();

  constructor(storage: Storage, size: number, signal: AbortSignal) {
    this.label = storage.label;
    this.size = size;
    this.#storage = storage;
    this.#stopped = new Promise((_, reject) => {
      // A reader that takes nothing must not keep an interrupt from being heard.
      signal.addEventListener('abort', () => reject(new ImageError('aborted', 'The output was cancelled')), {
        once: true,
      });
    });
    this.#stopped.catch(() => {});
  }

  read(): Promise<never> {
    return Promise.reject(new ImageError('unsupported', 'A pipe cannot be read back', { path: this.label }));
  }

  write(offset: number, source: Parameters<Storage['write']>[1]): Promise<void> {
    return this.#next(() => this.#storage.write(offset, source));
  }

  zero(offset: number, length: number): Promise<void> {
    return this.#next(() => this.#storage.zero(offset, length, { punch: false }));
  }

  extentAt(offset: number, end: number): Extent {
    const nowhere = { image: null, depth: null, compressed: false, file: null, fileOffset: null };
    return { offset, length: end - offset, state: 'absent', ...nowhere };
  }

  /** Fills up with zeroes to the end of the disk. */
  flush(): Promise<void> {
    return this.#next(async () => {
      await this.#storage.resize(this.size);
      await this.#storage.flush();
    });
  }

  async close(): Promise<void> {
    await this.#storage.close();
  }

  #next(write: () => Promise<void>): Promise<void> {
    const done = this.#last.then(() => Promise.race([write(), this.#stopped]));
    // What failed is reported to the caller; those behind it fail by themselves.
    this.#last = done.catch(() => {});
    return done;
  }
}
