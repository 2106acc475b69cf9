/** Where the command line reads and writes, so that tests can run it without a process of its own. */
import type { Readable, Writable } from 'node:stream';
import type { ImportModule } from '../plugin/plugins.ts';

/** A stream that may be a terminal. */
export type OutputStream = Writable & { readonly isTTY?: boolean; readonly columns?: number };

/** The world as the command line sees it. */
export interface CliIo {
  /** Asked for only when a command reads it: opening standard input costs time. */
  readonly stdin: () => Readable;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly version: () => string;
  /** Calls back once when the user interrupts; the next interrupt kills. Returns how to stop listening. */
  readonly onInterrupt: (run: () => void) => () => void;
  /** How plugins are loaded. Left out: by `import()`. */
  readonly importModule?: ImportModule | undefined;
}

/**
 * The same, with streams that are opened when they are first used: that costs a start a few milliseconds. A reader that
 * goes away does not end the program with a stack trace; the writes themselves report it. Until it is disposed of.
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

/** Colours only for a terminal whose user did not decline them. */
export function hasColours(stream: OutputStream, io: CliIo): boolean {
  const { NO_COLOR: declined, TERM: terminal } = io.environment;
  return stream.isTTY === true && (declined === undefined || declined === '') && terminal !== 'dumb';
}
