/** Context of a command: arguments, options, output, interruption. */
import { styleText } from 'node:util';
import type { Allow } from '../disk/options.ts';
import { printable, printableLines } from '../errors.ts';
import { UsageError } from './failure.ts';
import { type CliIo, hasColours, type OutputStream } from './io.ts';
import type { OptionValues } from './options.ts';
import { jsonText, TextOutput } from './output.ts';
import { ProgressReporter, type ProgressStyle } from './progress.ts';

/** A command's implementation; returns the exit status. */
export interface CommandModule {
  run(context: CommandContext): Promise<number>;
}

/** One invocation of a command. */
export class CommandContext {
  readonly options: OptionValues;
  readonly io: CliIo;
  /** Fires at the first interrupt. */
  readonly signal: AbortSignal;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly progress: ProgressReporter;
  readonly output: TextOutput;
  /** The state of the image after an interrupt, for the message; commands that change something replace it. */
  afterCancel = 'nothing was changed';
  /** Set by a command that has begun a JSON document: ends it with the failure inside. */
  endDocument: ((failure: Record<string, unknown>) => string) | null = null;
  readonly #args: readonly string[];

  constructor(args: readonly string[], options: OptionValues, io: CliIo, signal: AbortSignal) {
    this.#args = args;
    this.options = options;
    this.io = io;
    this.signal = signal;
    this.json = options.flag('json');
    this.quiet = options.flag('quiet');
    this.output = new TextOutput(() => io.stdout);
    this.progress = new ProgressReporter({
      style: this.#progressStyle(),
      write: (text) => void io.stderr.write(text),
      // A terminal that does not know its width says 0.
      columns: () => io.stderr.columns || 80,
    });
  }

  /** The argument at that position; the parser has checked that it is there. */
  argument(index: number): string {
    return this.#args[index] ?? '';
  }

  optionalArgument(index: number): string | undefined {
    return this.#args[index];
  }

  /** Open gate for names stored in images: the image's own directory plus `--allow`. */
  get allow(): Allow {
    const paths = this.options.list('allow');
    if (!paths.includes('none')) return ['same-directory', ...paths];
    if (paths.length === 1) return 'none';
    throw new UsageError('--allow none cannot be combined with another --allow', 'Remove one of them.');
  }

  /** Prints lines on standard output and waits for it. */
  async print(text: string): Promise<void> {
    this.progress.clear();
    await this.output.add(`${printableLines(text)}\n`);
    await this.output.flush();
  }

  /** Prints the one document of `--json`. */
  async printJson(document: Record<string, unknown>): Promise<void> {
    await this.print(jsonText(document, 2));
  }

  /** Prints a warning to stderr. Text from images is escaped. */
  warn(text: string): void {
    this.#tell(`${label('yellow', 'warning:', this.io.stderr, this.io)} ${printable(text)}`);
  }

  /** Prints a note to stderr; not with `--quiet`. */
  note(text: string): void {
    this.#tell(printable(text));
  }

  #tell(line: string): void {
    if (this.quiet) return;
    this.progress.clear();
    this.io.stderr.write(`${line}\n`);
  }

  #progressStyle(): ProgressStyle {
    const wanted = this.options.text('progress') ?? 'auto';
    if (wanted === 'bar' || wanted === 'json' || wanted === 'none') return wanted;
    return !this.quiet && this.io.stderr.isTTY === true ? 'bar' : 'none';
  }
}

/** A coloured word at the start of a line, if colours are welcome. */
export function label(colour: 'red' | 'yellow' | 'cyan', word: string, stream: OutputStream, io: CliIo): string {
  return hasColours(stream, io) ? styleText(['bold', colour], word, { validateStream: false }) : word;
}
