/** Names that files get in the image: `[/iso/name[=/joliet/name]=]host/path`, by the rules of `--name-setup`. */
import { ImageError } from '../../errors.ts';
import { type Names, type Space, type Step, unsupported, type VisoCommand } from './command.ts';

const SPACES: Readonly<Record<string, Space>> = {
  iso: 'iso',
  primary: 'iso',
  iso9660: 'iso',
  'iso-9660': 'iso',
  'primary-iso': 'iso',
  'iso-primary': 'iso',
  joliet: 'joliet',
};
/** What belongs to the primary name space: extensions with its names. */
const PRIMARY_EXTENSIONS = ['iso-rock', 'iso-trans-tbl'];

/** Sets the name spaces that the next names stand for. */
export function nameSetup(command: VisoCommand, value: string): void {
  const setup = value.split(',').map((element) => spacesOf(command, element, value));
  const all = setup.flat();
  if (all.length !== new Set(all).size) throw unsupported(`--name-setup ${value.slice(0, 80)}`, 'each name space once');
  command.setup = setup;
}

function spacesOf(command: VisoCommand, element: string, value: string): Space[] {
  const spaces: Space[] = [];
  for (const word of element.split(/[\s+|]+/)) {
    const space = Object.hasOwn(SPACES, word) ? SPACES[word] : undefined;
    if (space !== undefined) spaces.push(space);
    else {
      // Without more words it is about the name space before it.
      const whole = word === 'rock' || word === 'trans-tbl' ? `${spaces.at(-1) ?? ''}-${word}` : word;
      if (!PRIMARY_EXTENSIONS.includes(whole) || !spaces.includes('iso'))
        throw unsupported(
          `--name-setup ${value.slice(0, 80)}`,
          'iso and joliet; rock and trans-tbl with the names of iso',
        );
      if (whole === 'iso-trans-tbl') command.transTables = true;
    }
  }
  return spaces;
}

/** The step that a word without a dash asks for. */
export function addition(command: VisoCommand, word: string): Step {
  const parts = word.split('=');
  const host = parts.pop() ?? '';
  if (host === '') throw invalid('A name of the VISO file is empty', word);
  const removes = host === ':remove:' || host === ':must-remove:';
  if (parts.length === 0 && removes) throw invalid('The VISO file removes a file without its name', word);
  const names = namesOf(command, parts.length === 0 ? [lastPart(host)] : parts, word);
  if (removes) return { do: 'remove', names, must: host === ':must-remove:' };
  return { do: 'add', names, host, rules: command.rules, from: command.sources.at(-1) ?? null };
}

/** The root in each name space that is set up. */
export function rootNames({ setup }: VisoCommand): Names {
  const spaces = setup.flat();
  return { iso: spaces.includes('iso') ? '/' : null, joliet: spaces.includes('joliet') ? '/' : null };
}

/** Names of the boot catalog: as those of a file, without one. */
export function catalogNames(command: VisoCommand, value: string): Names {
  return namesOf(command, value.split('='), value);
}

/** A name for each list of name spaces; the last one stands for those that are left, an empty one leaves out. */
function namesOf({ setup }: VisoCommand, given: readonly string[], word: string): Names {
  if (given.length > setup.length) {
    throw invalid('A file of the VISO file has more names than there are name spaces', word, {
      expected: `at most ${setup.length}`,
      hint: 'For different names in each name space put --name-setup iso,joliet before them.',
    });
  }
  const names: Record<Space, string | null> = { iso: null, joliet: null };
  for (const [at, spaces] of setup.entries()) {
    const name = given[Math.min(at, given.length - 1)] ?? '';
    for (const space of spaces) names[space] = name === '' ? null : `/${name.replace(/^\/+/, '')}`;
  }
  if (names.iso !== null || names.joliet !== null) return names;
  throw invalid('A file of the VISO file has no name in the image', word);
}

function lastPart(host: string): string {
  return host.replace(/[/\\]+$/, '').replace(/^.*[/\\]/s, '');
}

function invalid(message: string, word: string, about: { expected?: string; hint?: string } = {}): ImageError {
  return new ImageError('invalid-format', message, { found: word.slice(0, 80), ...about });
}
