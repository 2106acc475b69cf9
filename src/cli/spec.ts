/** Shape of the command table, and how its parts are shown. */

/** All commands. */
export type CommandName =
  | 'info'
  | 'create'
  | 'convert'
  | 'map'
  | 'compare'
  | 'check'
  | 'copy'
  | 'merge'
  | 'compact'
  | 'resize'
  | 'rebase'
  | 'commit'
  | 'amend'
  | 'set'
  | 'rename'
  | 'delete'
  | 'snapshot'
  | 'bitmap'
  | 'measure'
  | 'formats'
  | 'filters'
  | 'cache'
  | 'completion';

/** Completion that a shell offers for a value. */
export type Completes = 'file' | 'format';

export interface OptionSpec {
  /** Spelled as in the help: `-q, --quiet`, `--size <N>`. */
  readonly flags: string;
  readonly description: string;
  /** May be repeated. */
  readonly repeat?: boolean;
  /** The permitted values; any other is a usage error. */
  readonly values?: readonly string[];
  readonly completes?: Completes;
  /** Value when the option is given without `=VALUE`. */
  readonly bare?: string;
  /** The other values in short, for the help. Default: all of them. */
  readonly others?: string;
}

export interface ArgumentSpec {
  readonly name: string;
  readonly description: string;
  readonly optional?: boolean;
  readonly values?: readonly string[];
  readonly completes?: Completes;
}

export interface ExampleSpec {
  readonly command: string;
  readonly description: string;
}

export interface CommandSpec {
  readonly name: CommandName;
  /** One line for lists. */
  readonly summary: string;
  /** Further sentences for the command's own help. */
  readonly description: string;
  readonly arguments: readonly ArgumentSpec[];
  readonly options: readonly OptionSpec[];
  readonly examples: readonly ExampleSpec[];
  /** Exit status of failures; default 1. */
  readonly trouble?: number;
  /** Exit status for an image of an unsupported kind, if the command distinguishes it. */
  readonly unsupported?: number;
}

/** `size` of `--size <N>`. */
export function longName(option: OptionSpec): string {
  return /--([a-z-]+)/.exec(option.flags)?.[1] ?? '';
}

/** `q` of `-q, --quiet`; undefined when there is none. */
export function shortName(option: OptionSpec): string | undefined {
  return /^-([A-Za-z])\b/.exec(option.flags)?.[1];
}

/** True when the next word is the option's value. */
export function takesValue(option: OptionSpec): boolean {
  return option.flags.includes('<');
}

/** The flags as the help shows them. */
export function shownFlags(option: OptionSpec): string {
  if (option.bare === undefined) return option.flags;
  const values = (option.values ?? []).filter((value) => value !== option.bare);
  return `--${longName(option)}[=${option.others ?? values.join('|')}]`;
}

/** `IMAGE [SIZE]`. */
export function shownArguments(command: CommandSpec): string {
  return command.arguments.map(({ name, optional }) => (optional === true ? `[${name}]` : name)).join(' ');
}
