/** Command-line parser: commander, fed from the command table. */
import { Argument, Command, CommanderError, Option } from 'commander';
import { GLOBAL_OPTIONS } from './common-options.ts';
import { UsageError } from './failure.ts';
import { OptionValues } from './options.ts';
import { type CommandSpec, longName, type OptionSpec, shownArguments, shownFlags } from './spec.ts';
import { COMMANDS } from './table.ts';

/** Result of parsing: a command to run, or a text such as the help. */
export type Parsed =
  | {
      readonly kind: 'command';
      readonly command: CommandSpec;
      readonly args: readonly string[];
      readonly options: OptionValues;
    }
  | { readonly kind: 'text'; readonly text: string }
  /** Nothing was asked for: the help, as an answer to a mistake. */
  | { readonly kind: 'nothing'; readonly text: string };

/** Width and colours of texts. */
export interface HelpStyle {
  readonly columns: () => number;
  readonly title: (text: string) => string;
  readonly version: () => string;
}

const GLOBAL_HEADING = 'Global options:';

/** Parses everything behind the program's name. Throws a usage error. */
export function parseWords(words: readonly string[], style: HelpStyle): Parsed {
  const texts: string[] = [];
  let parsed: Parsed | null = null;
  const program = buildProgram(commandsFor(words), { style, texts }, (found) => {
    parsed = found;
  });
  try {
    program.parse(withHiddenDashes(withBareValues(words)), { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    const text = texts.join('');
    if (error.exitCode === 0) return { kind: 'text', text };
    if (error.code === 'commander.help') return { kind: 'nothing', text };
    throw usageError(error, words);
  }
  if (parsed === null) throw new Error('internal: no command was chosen');
  return parsed;
}

/**
 * `--compress` alone takes no following word: it gets its default value here.
 */
function withBareValues(words: readonly string[]): string[] {
  const options = COMMANDS.flatMap((command) => command.options).filter(({ bare }) => bare !== undefined);
  const end = words.indexOf('--');
  return words.map((word, index) => {
    if (end !== -1 && index > end) return word;
    const option = options.find((one) => word === `--${longName(one)}`);
    return option?.bare === undefined ? word : `${word}=${option.bare}`;
  });
}

/** Stands for the dash of `-1G`, which is a size, not an option. No argument contains it otherwise. */
const HIDDEN_DASH = '\u0000-';
const LESS = /^-\d[\d.]*[KMGTP]?(iB)?$/i;

/** `resize disk.vdi -1G`: a size may be negative there. */
function withHiddenDashes(words: readonly string[]): readonly string[] {
  return words.includes('resize') ? words.map((word) => word.replace(LESS, (size) => `\u0000${size}`)) : words;
}

function withShownDashes(args: readonly string[]): string[] {
  return args.map((arg) => (arg.startsWith(HIDDEN_DASH) ? arg.slice(1) : arg));
}

/** Only the command named first is built: building all of them takes a tenth of a start. */
function commandsFor([first]: readonly string[]): readonly CommandSpec[] {
  const named = COMMANDS.filter(({ name }) => name === first);
  return named.length > 0 ? named : COMMANDS;
}

function buildProgram(
  commands: readonly CommandSpec[],
  { style, texts }: { readonly style: HelpStyle; readonly texts: string[] },
  choose: (found: Parsed) => void,
): Command {
  const program = new Command('vdkit')
    .usage('COMMAND [options]')
    .description('Virtual disk images: inspect, create, convert, compare, check and maintain them.')
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      writeOut: (text) => texts.push(text),
      writeErr: (text) => texts.push(text),
      // The message comes with the exception.
      outputError: () => {},
      getOutHelpWidth: style.columns,
      getErrHelpWidth: style.columns,
      // Colours are decided by the caller, who knows the stream.
      getOutHasColors: () => true,
      getErrHasColors: () => true,
    })
    .configureHelp({
      styleTitle: (text) => style.title(text),
      subcommandTerm: (command) => [command.name(), command.usage()].join(' ').replace(/ *\[options\]/, ''),
      // The descriptions name the choices already.
      optionDescription: (option) => option.description,
      argumentDescription: (argument) => argument.description,
      optionTerm: (option) => termOf(option.flags),
    })
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [COMMAND]', 'help for a command')
    .addHelpText('after', () => programFooter(style));
  const wanted = new Option('-V, --version', 'show the version');
  program.addOption(wanted).on('option:version', () => {
    texts.push(`${style.version()}\n`);
    throw new CommanderError(0, 'commander.version', '');
  });
  for (const option of GLOBAL_OPTIONS) program.addOption(makeOption(option).helpGroup(GLOBAL_HEADING));
  for (const command of commands) addCommand(program, command, style, choose);
  return program;
}

function termOf(flags: string): string {
  const option = COMMANDS.flatMap(({ options }) => options).find((one) => one.flags === flags);
  return option === undefined ? flags : shownFlags(option);
}

function addCommand(program: Command, spec: CommandSpec, style: HelpStyle, choose: (found: Parsed) => void): void {
  const command = program
    .command(spec.name)
    .usage(`${shownArguments(spec)} [options]`.trim())
    .summary(spec.summary)
    .description(spec.description)
    .addHelpOption(new Option('-h, --help', 'show help').helpGroup(GLOBAL_HEADING))
    .addHelpText('after', () => examplesText(spec, style));
  for (const { name, description, values } of spec.arguments) {
    // Optional here, so that `--variant help` works without them; what is missing is refused below.
    const argument = new Argument(`[${name}]`, description);
    command.addArgument(values === undefined ? argument : argument.choices(values));
  }
  for (const option of spec.options) command.addOption(makeOption(option));
  for (const option of GLOBAL_OPTIONS) command.addOption(makeOption(option).helpGroup(GLOBAL_HEADING));
  command.action(() => {
    const options = merged(program.opts(), command.opts());
    if (!options.list('variant').includes('help')) refuseMissing(spec, command.args);
    choose({ kind: 'command', command: spec, args: withShownDashes(command.args), options });
  });
}

function makeOption(spec: OptionSpec): Option {
  const option = new Option(spec.flags, spec.description);
  if (spec.values !== undefined) option.choices(spec.values);
  if (spec.repeat === true) {
    option.argParser((value: string, before: readonly string[] | undefined) => [...(before ?? []), value]);
  }
  return option;
}

/** Options of every command may stand before its name, too. */
function merged(before: Record<string, unknown>, after: Record<string, unknown>): OptionValues {
  const lists = Object.entries(after).flatMap(([key, value]) => {
    const other = before[key];
    return Array.isArray(value) && Array.isArray(other) ? [[key, [...other, ...value]] as const] : [];
  });
  // What `--no-lock` before the name declined, its absence behind the name does not bring back.
  const declined = Object.entries(before).filter(([, value]) => value === false);
  return new OptionValues({ ...before, ...after, ...Object.fromEntries([...lists, ...declined]) });
}

function refuseMissing(spec: CommandSpec, args: readonly string[]): void {
  const missing = spec.arguments.find(({ optional }, index) => optional !== true && args[index] === undefined);
  if (missing === undefined) return;
  const usage = `vdkit ${spec.name} ${shownArguments(spec)}`;
  throw new UsageError(`Missing argument ${missing.name}`, `Usage: ${usage}; see "vdkit ${spec.name} --help".`);
}

/** Commands that create, rename, remove or link whole files: they cannot work on an image inside another one. */
const WHOLE_FILES: ReadonlySet<string> = new Set(['create', 'rename', 'delete', 'merge', 'rebase', 'commit']);

/** Commander's `error: unknown command 'inof'\n(Did you mean info?)` as a message and a hint. */
function usageError(error: CommanderError, words: readonly string[]): UsageError {
  const [first = '', ...rest] = error.message.replace(/^error: /, '').split('\n');
  const suggestion = /^\(Did you mean (.*)\?\)$/.exec(rest.join(' ').trim())?.[1];
  const command = COMMANDS.find(({ name }) => words.includes(name));
  const inside = /^unknown option '(--offset|--partition)\b/.exec(first)?.[1];
  if (inside !== undefined && command !== undefined && WHOLE_FILES.has(command.name)) {
    const message = `"vdkit ${command.name}" works on whole files, so ${inside} cannot be used`;
    return new UsageError(message, 'Extract the image with "vdkit convert" first, or remove the option.');
  }
  const help = command === undefined ? 'vdkit --help' : `vdkit ${command.name} --help`;
  const message = first.charAt(0).toUpperCase() + first.slice(1).replace(/\.$/, '');
  return new UsageError(message, suggestion === undefined ? `See "${help}".` : `Did you mean ${suggestion}?`);
}

function examplesText(spec: CommandSpec, style: HelpStyle): string {
  const lines = spec.examples.map(({ command, description }) => `  # ${description}\n  ${command}`);
  return `\n${style.title('Examples:')}\n${lines.join('\n')}`;
}

function programFooter(style: HelpStyle): string {
  return [
    `\n${style.title('Examples:')}`,
    '  vdkit info disk.vdi',
    '  vdkit convert disk.vdi disk.raw',
    '  vdkit help convert',
    `\n${style.title('Exit status:')}`,
    '  0 done; 1 failed; 64 usage error; 130 interrupted.  compare: 0 same, 1 different, 2 trouble.',
    '  check: 0 clean, 2 corruption, 3 leaked space only, 63 check not supported.',
  ].join('\n');
}
