/** Finding out what a file is, from its first and last bytes and its name. */
import { ImageError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import type { Storage } from '../storage/contract.ts';
import type { Format, ProbeAnswer, ProbeInput } from './contract.ts';
import type { Registry } from './registry.ts';

/** What a probe came to. */
export interface ProbeOutcome {
  readonly format: Format;
  readonly answer: ProbeAnswer;
  /** Nothing identifies the file: raw by default. Never good enough for writing. */
  readonly guessed: boolean;
  /** Everybody who said yes or maybe, strongest first. */
  readonly candidates: readonly { readonly format: Format; readonly answer: ProbeAnswer }[];
  /** For people: a name that says something else than the content. */
  readonly warnings: readonly string[];
}

/** Reads what probes may look at. */
export async function readProbeInput(storage: Storage, name: string): Promise<ProbeInput> {
  const head = new Uint8Array(Math.min(LIMITS.probeHead, storage.size));
  const tail = new Uint8Array(Math.min(LIMITS.probeTail, storage.size));
  if (head.length > 0) await storage.read(0, head);
  if (tail.length > 0) await storage.read(storage.size - tail.length, tail);
  return { name, size: storage.size, head, tail };
}

/** Asks every format. `yes` beats `maybe`, earlier beats later; raw is what is left. */
export function probeFormat(input: ProbeInput, registry: Registry): ProbeOutcome {
  const answers = registry.formats.map((format) => ({ format, answer: format.probe(input) }));
  const strength = { yes: 0, maybe: 1, no: 2 } as const;
  const candidates = answers
    .filter(({ answer }) => answer.match !== 'no')
    .sort((a, b) => strength[a.answer.match] - strength[b.answer.match]);
  const raw = answers.find(({ format }) => format.name === 'raw');
  const best = candidates.find(({ format, answer }) => format.name !== 'raw' || answer.match === 'yes') ?? raw;
  if (best === undefined) {
    throw new ImageError('invalid-format', 'No format fits this file', { path: input.name });
  }
  const guessed = best.format.name === 'raw';
  return { ...best, guessed, candidates, warnings: nameWarning(input, best.format, registry) };
}

function nameWarning(input: ProbeInput, format: Format, registry: Registry): string[] {
  const named = registry.byExtension(input.name);
  if (named === undefined || named === format || format.name !== 'raw') return [];
  return [`${input.name} is named like a ${named.name} image but is none; it is read as raw.`];
}
