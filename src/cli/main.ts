/** The command line: parses, runs one command, and turns whatever happens into output and an exit status. */
import { styleText } from 'node:util';
import { defaultProvider } from '#local-storage';
import { isImageError, printable, withPath } from '../errors.ts';
import { CommandContext, label } from './context.ts';
import { EXIT, type Failure, failureDocument, failureOf, OutputClosed, stackOf } from './failure.ts';
import { type CliIo, hasColours, QuietIo } from './io.ts';
import { LOADERS } from './loaders.ts';
import { jsonText, writeText } from './output.ts';
import { type HelpStyle, type Parsed, parseWords } from './parser.ts';

/** Widest help that is still easy to read. */
const HELP_COLUMNS = 100;

/**
 * Runs the words behind the program's name and resolves to the exit status. Never rejects and never exits the process.
 */
export async function run(words: readonly string[], io: CliIo): Promise<number> {
  using quiet = new QuietIo(io);
  return await parseAndRun(words, quiet);
}

async function parseAndRun(words: readonly string[], io: CliIo): Promise<number> {
  try {
    const parsed = parseWords(words, helpStyle(io));
    if (parsed.kind === 'command') return await runCommand(parsed, io);
    await writeText(parsed.kind === 'text' ? io.stdout : io.stderr, parsed.text);
    return parsed.kind === 'text' ? EXIT.done : EXIT.usage;
  } catch (error) {
    if (error instanceof OutputClosed) return error.exitStatus;
    const failure = failureOf(error, { trouble: EXIT.failed, cancelled: null });
    await printFailure(failure, error, { io, json: words.includes('--json'), debug: words.includes('--debug') });
    return failure.exitStatus;
  }
}

async function runCommand(parsed: Parsed & { kind: 'command' }, io: CliIo): Promise<number> {
  const { command, args, options } = parsed;
  const interrupt = new AbortController();
  const stopListening = io.onInterrupt(() => interrupt.abort());
  const context = new CommandContext(args, options, io, interrupt.signal);
  try {
    const plugins = options.list('plugin');
    if (plugins.length > 0) await (await import('./plugins.ts')).loadPlugins(context, plugins);
    const { run: runLoaded } = await LOADERS[command.name]();
    const status = await runLoaded(context);
    context.progress.finish(true);
    return status;
  } catch (error) {
    context.progress.finish(false);
    if (error instanceof OutputClosed) throw error;
    const cancelled = interrupt.signal.aborted ? context.afterCancel : null;
    const unsupported = isImageError(error) && error.kind === 'unsupported' ? command.unsupported : undefined;
    const told = context.json ? error : asTyped(error, [...args, ...options.texts]);
    const failure = failureOf(told, { trouble: unsupported ?? command.trouble ?? EXIT.failed, cancelled });
    await printFailure(failure, error, { io, json: context.json, debug: options.flag('debug'), context });
    return failure.exitStatus;
  } finally {
    stopListening();
  }
}

/** The error with the name of a file as the user typed it. Documents have the full name. */
function asTyped(error: unknown, words: readonly string[]): unknown {
  try {
    return words.reduce((told, typed) => withPath(told, defaultProvider().resolve(typed, ''), typed), error);
  } catch {
    // The working directory is gone, which is what the error says.
    return error;
  }
}

interface PrintHow {
  readonly io: CliIo;
  readonly json: boolean;
  readonly debug: boolean;
  readonly context?: CommandContext | undefined;
}

/** Prints a failure. Outputs that take nothing are passed over: the exit status says what happened in any case. */
async function printFailure(failure: Failure, error: unknown, how: PrintHow): Promise<void> {
  const { io, json, debug } = how;
  if (debug) await isWritten(writeText(io.stderr, `${stackOf(error)}\n`));
  if (json && (await isWritten(printDocument(failure, how)))) return;
  // What was found so far comes before what went wrong.
  await isWritten(how.context?.output.flush());
  const line = failure.kind === 'aborted' ? failure.line : `${label('red', 'error:', io.stderr, io)} ${failure.line}`;
  const hint = failure.hint === null ? '' : `${label('cyan', 'hint:', io.stderr, io)} ${printable(failure.hint)}\n`;
  await isWritten(writeText(io.stderr, `${line}\n${hint}`));
}

async function printDocument(failure: Failure, { io, context }: PrintHow): Promise<void> {
  const document = failureDocument(failure);
  const end = context?.endDocument ?? null;
  if (end !== null) await context?.output.add(end(document));
  await context?.output.flush();
  if (end === null) await writeText(io.stdout, `${jsonText({ error: document }, 2)}\n`);
}

async function isWritten(output: Promise<void> | undefined): Promise<boolean> {
  try {
    await output;
    return true;
  } catch {
    return false;
  }
}

function helpStyle(io: CliIo): HelpStyle {
  return {
    columns: () => Math.min(io.stdout.columns || HELP_COLUMNS, HELP_COLUMNS),
    title: (text) => (hasColours(io.stdout, io) ? styleText('bold', text, { validateStream: false }) : text),
    version: io.version,
  };
}
