/**
 * Detection of a file's format from its first and last bytes and its name.
 *
 * A guest owns the content of its disk and can write any signature into it: at the start of a raw disk, at the end of
 * an image whose last bytes are guest data. So raw is a guess, never acceptable for writing, and a file that fits
 * several formats is reported as such.
 */
import { assert, ImageError, isImageError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Source, Storage } from '../storage/contract.ts';
import type { DirectoryProbeInput, Format, ProbeAnswer, ProbeInput } from './contract.ts';
import type { Registry } from './registry.ts';

/** A format and its answer for a file. */
export interface ProbeCandidate {
  readonly format: Format;
  readonly answer: ProbeAnswer;
}

/** Result of probing. */
export interface ProbeOutcome extends ProbeCandidate {
  /** True when nothing identifies the file: raw by default. Not acceptable for writing. */
  readonly guessed: boolean;
  /** All formats that answered yes or maybe, strongest first, raw last. */
  readonly candidates: readonly ProbeCandidate[];
  /** Warnings: a name that contradicts the content, content that fits several formats. */
  readonly warnings: readonly string[];
}

const STRENGTH = { yes: 0, maybe: 1, no: 2 } as const;

/** Hint for formats that are recognised and cannot be opened: any file can be read as raw. */
export const AS_RAW = 'use its own bytes as a disk with format "raw" (on the command line: --format raw)';
const PARENT_AS_RAW = AS_RAW.replace('format "raw"', 'parentFormat "raw"').replace('--format', '--parent-format');

/** The same failure for a parent, whose format is named by another option. */
export function ofParent(error: unknown): unknown {
  if (!isImageError(error) || error.hint?.includes(AS_RAW) !== true) return error;
  const { kind, message, context, status, cause } = error;
  return new ImageError(kind, message, { ...context, status, cause, hint: error.hint.replace(AS_RAW, PARENT_AS_RAW) });
}

/** Reads the input of probes. Throws `unsupported` for a stream, which could not be read from the beginning again. */
export async function readProbeInput(storage: Storage, name: string): Promise<ProbeInput> {
  const { size } = storage;
  if (!storage.can.random) {
    throw new ImageError('unsupported', 'The format of a stream cannot be detected', {
      path: name,
      hint: 'Specify format "raw", or read the stream into a file or into memory first.',
    });
  }
  const head = new Uint8Array(Math.min(LIMITS.probeHead, size));
  const tail = new Uint8Array(Math.min(LIMITS.probeTail, size));
  if (head.length > 0) await storage.read(0, head);
  if (tail.length > 0) await storage.read(size - tail.length, tail);
  return { name, size, head, tail };
}

/**
 * Asks every format. `yes` beats `maybe`, earlier beats later, raw is the fallback. Throws `invalid-format` if not even
 * raw fits: an empty file.
 */
export function probeFormat(input: ProbeInput, registry: Registry): ProbeOutcome {
  const candidates = registry.formats
    .map((format) => ({ format, answer: ask(format, input) }))
    .filter(({ answer }) => answer.match !== 'no')
    .sort((a, b) => rank(a, registry) - rank(b, registry));
  const [best] = candidates;
  if (best === undefined) {
    throw new ImageError(
      'invalid-format',
      input.size === 0 ? 'The file is empty' : 'The format of the file is not recognised',
      {
        path: input.name,
      },
    );
  }
  const guessed = best.format === registry.fallback;
  const sure = candidates.filter(({ format, answer }) => answer.match === 'yes' && format !== registry.fallback);
  const warnings = [...nameWarnings(input, best.format, registry), ...rivalWarnings(input, sure)];
  return { ...best, guessed, candidates, warnings };
}

/** Reads the input of directory probes. */
export async function readDirectoryInput({ provider, name }: Source): Promise<DirectoryProbeInput> {
  const names: string[] = [];
  for await (const file of provider.list(name)) {
    names.push(file.slice(name.length).replace(/^[/\\]+/, ''));
    if (names.length === LIMITS.probeNames) break;
  }
  return { name, names: names.sort() };
}

/** Asks every format whose images can be directories; null if none fits. A directory is never guessed. */
export function probeDirectory(input: DirectoryProbeInput, registry: Registry): ProbeOutcome | null {
  const candidates = registry.formats
    .flatMap((format) => {
      const answer = format.probeDirectory?.(input);
      return answer === undefined || answer.match === 'no' ? [] : [{ format, answer }];
    })
    .sort((a, b) => rank(a, registry) - rank(b, registry));
  const [best] = candidates;
  if (best === undefined) return null;
  const sure = candidates.filter(({ answer }) => answer.match === 'yes');
  return { ...best, guessed: false, candidates, warnings: rivalWarnings(input, sure) };
}

function ask(format: Format, input: ProbeInput): ProbeAnswer {
  try {
    return format.probe(input);
  } catch (error) {
    throw new Error(`internal: the probe of format ${format.name} threw`, { cause: error });
  }
}

function rank({ format, answer }: ProbeCandidate, { fallback }: Registry): number {
  return format === fallback ? STRENGTH.no : STRENGTH[answer.match];
}

function nameWarnings(input: ProbeInput, format: Format, registry: Registry): string[] {
  const named = registry.byExtension(input.name);
  const { fallback } = registry;
  // A name for raw disks says nothing: all kinds of images are called .img.
  if (named === undefined || named === format || named === fallback || sharesExtension(named, format)) return [];
  const found = format === fallback ? `lacks its signature; it is read as ${format.name}` : `is a ${format.name} image`;
  return [`${input.name} is named like a ${named.name} image but ${found}.`];
}

function sharesExtension(a: Format, b: Format): boolean {
  return a.extensions.some(({ extension }) => b.extensions.some((other) => other.extension === extension));
}

function rivalWarnings(input: Pick<ProbeInput, 'name'>, sure: readonly ProbeCandidate[]): string[] {
  const [best, ...rivals] = sure;
  if (rivals.length === 0) return [];
  assert(best !== undefined, 'rivals have somebody to compete with');
  const others = rivals.map(({ format, answer }) => `${format.name} (${answer.reason})`).join(' and ');
  return [
    `${input.name} is read as ${best.format.name} but could also be ${others}; specify the format to be sure (--format).`,
  ];
}
