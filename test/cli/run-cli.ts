/** Runs the command line inside the test, with streams that remember. */
import { Readable, Writable } from 'node:stream';
import type { CliIo } from '../../src/cli/io.ts';
import { run } from '../../src/cli/main.ts';

/** Outcome of one call. */
export interface Outcome {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Uint8Array;
}

export interface RunOptions {
  readonly stdin?: Readable;
  readonly environment?: Readonly<Record<string, string>>;
  /** Both outputs are terminals. */
  readonly terminal?: boolean;
  /** Gets a function that interrupts, as Ctrl-C does. */
  readonly onStart?: (interrupt: () => void) => void;
  /** Sees each piece of stderr as it comes. */
  readonly onStderr?: (text: string) => void;
}

/** Runs `vdkit <words>`. */
export async function runCli(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const out = new Collector(options.terminal === true);
  const err = new Collector(options.terminal === true, options.onStderr);
  let interrupt = (): void => {};
  const io: CliIo = {
    stdin: () => options.stdin ?? Readable.from([]),
    stdout: out,
    stderr: err,
    environment: options.environment ?? {},
    version: () => '1.2.3',
    onInterrupt(tell) {
      interrupt = tell;
      options.onStart?.(() => interrupt());
      return () => {
        interrupt = () => {};
      };
    },
  };
  const status = await run(words, io);
  return { status, stdout: out.text, stderr: err.text, bytes: out.bytes };
}

class Collector extends Writable {
  readonly isTTY: boolean;
  readonly columns = 80;
  readonly #parts: Uint8Array[] = [];
  readonly #onText: ((text: string) => void) | undefined;

  constructor(isTTY: boolean, onText?: (text: string) => void) {
    super({ decodeStrings: true });
    this.isTTY = isTTY;
    this.#onText = onText;
  }

  get bytes(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  get text(): string {
    return new TextDecoder().decode(this.bytes);
  }

  override _write(chunk: Uint8Array, _encoding: string, done: () => void): void {
    // The buffer belongs to the writer again when this call ends.
    this.#parts.push(chunk.slice());
    this.#onText?.(new TextDecoder().decode(chunk));
    done();
  }
}
