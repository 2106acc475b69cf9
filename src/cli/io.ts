/** Streams of the command line, so that tests can run it inside their own process. */
import type { Readable, Writable } from 'node:stream';
import type { ImportModule } from '../plugin/plugins.ts';

/** A stream that may be a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean | undefined; readonly columns?: number | undefined };

/** Environment of the command line. */
export interface CliIo {
  /** Called only by commands that read standard input: opening it costs time. */
  readonly stdin: () => Readable;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: () => string;
  /**
   * Calls back once on the first interrupt; the next one kills the process. Returns a function that stops listening.
   */
  readonly onInterrupt: (run: () => void) => () => void;
  /** Loader for plugins. Default: `import()`. */
  readonly importModule?: ImportModule | undefined;
}

/**
 * Standard streams, opened on first use: opening them costs a few milliseconds of every start. A reader that goes away
 * does not end the program with a stack trace; the writes themselves report it. Holds until disposed of.
 */
export class QuietIo implements CliIo {
  readonly stdin: CliIo['stdin'];
  readonly environment: CliIo['environment'];
  readonly version: CliIo['version'];
  readonly onInterrupt: CliIo['onInterrupt'];
  readonly importModule: CliIo['importModule'];
  readonly #io: CliIo;
  readonly #quiet = new Set<OutputStream>();

  constructor(io: CliIo) {
    this.#io = io;
    this.stdin = io.stdin;
    this.environment = io.environment;
    this.version = io.version;
    this.onInterrupt = io.onInterrupt;
    this.importModule = io.importModule;
  }

  get stdout(): OutputStream {
    return this.#quieten(this.#io.stdout);
  }

  get stderr(): OutputStream {
    return this.#quieten(this.#io.stderr);
  }

  [Symbol.dispose](): void {
    for (const stream of this.#quiet) stream.off('error', ignore);
  }

  #quieten(stream: OutputStream): OutputStream {
    if (!this.#quiet.has(stream)) {
      this.#quiet.add(stream);
      stream.on('error', ignore);
    }
    return stream;
  }
}

function ignore(): void {}

/** Colours only on a terminal whose user did not decline them. */
export function hasColours(stream: OutputStream, io: CliIo): boolean {
  const { NO_COLOR: declined, TERM: terminal } = io.environment;
  return stream.isTTY === true && (declined === undefined || declined === '') && terminal !== 'dumb';
}
