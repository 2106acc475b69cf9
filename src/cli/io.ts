/** Where the command line reads and writes, so that tests can run it without a process of its own. */
import type { Readable, Writable } from 'node:stream';

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
  /** Told once when a command has begun to move a lot of data. */
  readonly onLongWork?: () => void;
}

/** Colours only for a terminal whose user did not decline them. */
export function hasColours(stream: OutputStream, io: CliIo): boolean {
  const { NO_COLOR: declined, TERM: terminal } = io.environment;
  return stream.isTTY === true && (declined === undefined || declined === '') && terminal !== 'dumb';
}
