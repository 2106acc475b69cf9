/** `vdkit completion`: scripts that teach a shell the commands and options, from the command table. */
import { FORMATS } from '../../formats/index.ts';
import { GLOBAL_OPTIONS } from '../common-options.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { type CommandSpec, type Completes, longName, type OptionSpec, shortName, takesValue } from '../spec.ts';
import { COMMANDS } from '../table.ts';

/** Runs `completion SHELL`; the parser lets no other shells through. */
export async function run(context: CommandContext): Promise<number> {
  const scripts: Readonly<Record<string, () => string>> = { bash: bashScript, zsh: zshScript, fish: fishScript };
  const script = scripts[context.argument(0)]?.() ?? '';
  if (context.json) await context.printJson({ schema: 'vdkit/completion/1', script });
  else await context.print(script);
  return EXIT.done;
}

const HELP: OptionSpec = { flags: '-h, --help', description: 'show help' };

function optionsOf(command: CommandSpec): readonly OptionSpec[] {
  return [...command.options, ...GLOBAL_OPTIONS, HELP];
}

function formatNames(): string {
  return FORMATS.flatMap(({ name, aliases }) => [name, ...aliases]).join(' ');
}

/** Words a shell may offer; null: file names. */
function wordsFor(spec: {
  readonly values?: readonly string[] | undefined;
  readonly completes?: Completes | undefined;
}): string | null {
  if (spec.values !== undefined) return spec.values.join(' ');
  if (spec.completes === 'file') return null;
  return spec.completes === 'format' ? formatNames() : '';
}

/** `--size` and `-s`, as words. */
function namesOf(option: OptionSpec): string[] {
  const short = shortName(option);
  return short === undefined ? [`--${longName(option)}`] : [`--${longName(option)}`, `-${short}`];
}

function bashScript(): string {
  const values = COMMANDS.flatMap((command) =>
    optionsOf(command)
      .filter(takesValue)
      .map((option) => bashValues(command, option)),
  );
  const options = COMMANDS.map((command) => {
    const names = optionsOf(command).flatMap(namesOf).join(' ');
    const words = command.arguments.map(wordsFor).find((one) => one !== null && one !== '') ?? '';
    return `    ${command.name}) options='${names}' words='${words}' ;;`;
  });
  return [
    '# bash completion for vdkit',
    '_vdkit() {',
    '  local current=$2 previous=$3 command= word options= words=',
    '  COMPREPLY=()',
    `  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do`,
    `    case $word in ${COMMANDS.map(({ name }) => name).join('|')}) command=$word; break ;; esac`,
    '  done',
    '  if [[ -z $command ]]; then',
    `    COMPREPLY=($(compgen -W '${[...COMMANDS.map(({ name }) => name), 'help'].join(' ')} --help --version' -- "$current"))`,
    '    return',
    '  fi',
    '  case "$command $previous" in',
    ...values,
    '  esac',
    '  case $command in',
    ...options,
    '  esac',
    '  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$current")); return; fi',
    '  if [[ -n $words && $previous == "$command" ]]; then COMPREPLY=($(compgen -W "$words" -- "$current")); return; fi',
    '  compopt -o filenames 2>/dev/null',
    '  COMPREPLY=($(compgen -f -- "$current"))',
    '}',
    'complete -F _vdkit vdkit',
  ].join('\n');
}

function bashValues(command: CommandSpec, option: OptionSpec): string {
  const patterns = namesOf(option)
    .map((name) => `'${command.name} ${name}'`)
    .join('|');
  const words = wordsFor(option);
  if (words === null)
    return `    ${patterns}) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")); return ;;`;
  return `    ${patterns}) COMPREPLY=($(compgen -W '${words}' -- "$current")); return ;;`;
}

function zshScript(): string {
  const cases = COMMANDS.flatMap((command) => [
    `    ${command.name})`,
    `      _arguments -s \\`,
    ...optionsOf(command).flatMap(zshOption),
    ...command.arguments.map(
      (argument, index) =>
        `        '${index + 1}${argument.optional === true ? '::' : ':'}${argument.name}:${zshAction(argument)}' \\`,
    ),
    '        && return',
    '      ;;',
  ]);
  return [
    '#compdef vdkit',
    '# zsh completion for vdkit',
    '_vdkit() {',
    '  local -a commands',
    '  commands=(',
    ...COMMANDS.map(({ name, summary }) => `    '${name}:${zshText(summary)}'`),
    "    'help:help for a command'",
    '  )',
    '  if (( CURRENT == 2 )); then',
    "    _describe 'command' commands",
    '    return',
    '  fi',
    '  local command=$words[2]',
    '  shift words; (( CURRENT-- ))',
    '  case $command in',
    ...cases,
    "    help) _describe 'command' commands ;;",
    '  esac',
    '}',
    'if [[ $funcstack[1] == _vdkit ]]; then _vdkit "$@"; else compdef _vdkit vdkit; fi',
  ].join('\n');
}

function zshOption(option: OptionSpec): string[] {
  const repeat = option.repeat === true ? '*' : '';
  const value = takesValue(option) ? `:value:${zshAction(option)}` : '';
  return namesOf(option).map((name) => `        '${repeat}${name}[${zshText(option.description)}]${value}' \\`);
}

function zshAction(spec: {
  readonly values?: readonly string[] | undefined;
  readonly completes?: Completes | undefined;
}): string {
  const words = wordsFor(spec);
  if (words === null) return '_files';
  return words === '' ? ' ' : `(${words})`;
}

/** Quotes, brackets and colons mean something to `_arguments`. */
function zshText(text: string): string {
  return text.replace(/[[\]:\\]/g, '\\$&').replaceAll("'", "'\\''");
}

function fishScript(): string {
  const names = COMMANDS.map(({ name }) => name).join(' ');
  const lines = COMMANDS.flatMap((command) => {
    const when = `-n '__fish_seen_subcommand_from ${command.name}'`;
    const words = command.arguments.map(wordsFor).find((one) => one !== null && one !== '');
    const files = command.arguments.some(({ completes }) => completes === 'file');
    return [
      `complete -c vdkit -n '__fish_use_subcommand' -f -a ${command.name} -d '${fishText(command.summary)}'`,
      ...(files && words === undefined
        ? []
        : [`complete -c vdkit ${when}${files ? '' : ' -f'}${words === undefined ? '' : ` -a '${words}'`}`]),
      ...optionsOf(command).map((option) => `complete -c vdkit ${when} ${fishOption(option)}`),
    ];
  });
  return [
    '# fish completion for vdkit',
    "complete -c vdkit -n '__fish_use_subcommand' -f",
    ...lines,
    "complete -c vdkit -n '__fish_use_subcommand' -f -a help -d 'help for a command'",
    `complete -c vdkit -n '__fish_seen_subcommand_from help' -f -a '${names}'`,
  ].join('\n');
}

function fishOption(option: OptionSpec): string {
  const short = shortName(option);
  const name = `${short === undefined ? '' : `-s ${short} `}-l ${longName(option)}`;
  const text = `-d '${fishText(option.description)}'`;
  if (!takesValue(option)) return `${name} ${text}`;
  const words = wordsFor(option);
  if (words === null) return `${name} -r -F ${text}`;
  return words === '' ? `${name} -x ${text}` : `${name} -x -a '${words}' ${text}`;
}

function fishText(text: string): string {
  return text.replace(/[\\']/g, '\\$&');
}
