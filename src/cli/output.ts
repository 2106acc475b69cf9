/** Text output in large pieces; waits for slow readers and stops silently when the reader goes away. */
import type { Writable } from 'node:stream';
import { systemError } from '#local-storage';
import { OutputClosed } from './failure.ts';

/** Bytes (roughly) collected before they are written. */
const PIECE = 64 * 1024;

/** Name of the output in messages: they are read on standard error. */
const OUTPUT = 'standard output';
const ELSEWHERE = 'The output is incomplete: free some space, or redirect it elsewhere.';

/** Collects text and writes it piece by piece. */
export class TextOutput {
  readonly #stream: () => Writable;
  #pending = '';

  constructor(stream: () => Writable) {
    this.#stream = stream;
  }

  /** Adds text. If it returns a promise, a piece is being written: wait for it. */
  add(text: string): Promise<void> | undefined {
    this.#pending += text;
    return this.#pending.length < PIECE ? undefined : this.flush();
  }

  /** Writes what is left. */
  async flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = '';
    if (text !== '') await writeText(this.#stream(), text);
  }
}

/** Characters that JSON leaves unescaped but a terminal may obey. */
const UNSAFE = /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;

/** JSON that is safe on a terminal and reads as the same values. */
export function jsonText(value: unknown, indent?: number): string {
  const escaped = (char: string): string => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return JSON.stringify(value, null, indent).replace(UNSAFE, escaped);
}

/**
 * Writes and waits until the stream has accepted it. Throws {@link OutputClosed} if the reader has gone away, and an
 * ImageError if the system refuses the text, as a full disk does.
 */
export function writeText(stream: Writable, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(text, (error) => {
      if (error === null || error === undefined) resolve();
      else reject(isClosedPipe(error) ? new OutputClosed() : systemError(error, { path: OUTPUT, hint: ELSEWHERE }));
    });
  });
}

/** True for the errors of a pipe without a reader. */
export function isClosedPipe(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED' || code === 'ECONNRESET';
}
