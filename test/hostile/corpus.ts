/** Files that reached something new, kept from one run to the next, and new files made of them. */
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Random } from '../../src/testing/random.ts';
import type { Sample } from './descriptor.ts';
import { numberAt, numberBytes } from './mutations.ts';

/** Larger files are cut: what matters is in their first part, and speed comes from small files. */
const LARGEST = 96 * 1024;

/** The files of one format. */
export class Corpus {
  readonly #folder: string;
  readonly #members: Uint8Array[] = [];
  readonly #names = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(folder, { recursive: true });
    for (const name of readdirSync(folder).sort()) {
      this.#names.add(name);
      this.#members.push(readFileSync(join(folder, name)));
    }
  }

  get size(): number {
    return this.#members.length;
  }

  /** All files so far. */
  members(): readonly Uint8Array[] {
    return [...this.#members];
  }

  /** Keeps a file, also for the next run. */
  add(bytes: Uint8Array): void {
    const name = nameOf(bytes);
    if (this.#names.has(name)) return;
    this.#names.add(name);
    this.#members.push(bytes);
    writeFileSync(join(this.#folder, name), bytes);
  }

  /** Any member; new ones more often than old ones. */
  pick(random: Random): Uint8Array {
    const from = random.chance(0.4) ? Math.floor(this.#members.length * 0.8) : 0;
    return this.#members[from + random.below(this.#members.length - from)] ?? new Uint8Array(0);
  }
}

/** A name by content. */
export function nameOf(bytes: Uint8Array): string {
  return `${createHash('sha256').update(bytes).digest('hex').slice(0, 24)}.bin`;
}

/** A new file: a member with several changes on top of each other. */
export function mutated(corpus: Corpus, samples: readonly Sample[], random: Random): Uint8Array {
  let bytes: Uint8Array = corpus.pick(random).slice(0, LARGEST);
  const changes = 1 + random.below(random.chance(0.3) ? 12 : 3);
  for (let left = changes; left > 0; left--) bytes = changeOnce(bytes, { corpus, samples, random });
  return bytes;
}

interface Means {
  readonly corpus: Corpus;
  readonly samples: readonly Sample[];
  readonly random: Random;
}

type Change = (bytes: Uint8Array, means: Means) => Uint8Array;

function changeOnce(bytes: Uint8Array, means: Means): Uint8Array {
  if (bytes.length === 0) return Uint8Array.of(means.random.below(256));
  return means.random.pick(CHANGES)(bytes, means);
}

/** Structures and tables come several times: that is where most parsers branch. */
const CHANGES: readonly [Change, ...Change[]] = [
  setField,
  setField,
  setField,
  setEntry,
  setEntry,
  flipBit,
  setByte,
  addToNumber,
  copyInside,
  cut,
  grow,
  splice,
];

function setField(bytes: Uint8Array, { samples, random }: Means): Uint8Array {
  const { anatomy } = anyOf(samples, random);
  const place = anyOf(anatomy.structs, random);
  const field = anyOf(Object.values(place.table.fields), random);
  const offset = place.offset + field.offset;
  if (field.size > 8) {
    const start = offset + random.below(field.size);
    return put(
      bytes,
      start,
      Uint8Array.from({ length: Math.min(1 + random.below(8), 8) }, () => random.below(256)),
    );
  }
  const present = numberAt(bytes, offset, field.size, place.littleEndian);
  return put(bytes, offset, numberBytes(edgeValue(present, field.size, random), field.size, place.littleEndian));
}

function setEntry(bytes: Uint8Array, { samples, random }: Means): Uint8Array {
  const { anatomy } = anyOf(samples, random);
  const table = anyOf(anatomy.tables, random);
  const index = random.below(Math.min(table.count, 64));
  const { entryBytes, littleEndian } = table;
  const at = (one: number): number => table.offset + one * entryBytes;
  const other = numberAt(bytes, at(random.below(Math.min(table.count, 64))), entryBytes, littleEndian);
  const known = random.chance(0.5) ? other : anyOf(table.values, random);
  const value = random.chance(0.7) ? known : edgeValue(other, entryBytes, random);
  return put(bytes, at(index), numberBytes(BigInt.asUintN(entryBytes * 8, value), entryBytes, littleEndian));
}

/** A number that breaks parsers. */
function edgeValue(present: bigint, size: number, random: Random): bigint {
  const bits = size * 8;
  const power = 1n << BigInt(random.below(bits));
  const values: [bigint, ...bigint[]] = [0n, 1n, -1n, -2n, power, power - 1n, present + 1n, present - 1n];
  values.push(present * 2n, present ^ power, present + power, BigInt(random.below(64)), BigInt(random.next()));
  return BigInt.asUintN(bits, random.pick(values));
}

function flipBit(bytes: Uint8Array, { random }: Means): Uint8Array {
  const at = somewhere(bytes, random);
  return put(bytes, at, Uint8Array.of((bytes[at] ?? 0) ^ (1 << random.below(8))));
}

function setByte(bytes: Uint8Array, { random }: Means): Uint8Array {
  return put(bytes, somewhere(bytes, random), Uint8Array.of(random.below(256)));
}

function addToNumber(bytes: Uint8Array, { random }: Means): Uint8Array {
  const at = somewhere(bytes, random) & ~3;
  const littleEndian = random.chance(0.5);
  const value = numberAt(bytes, at, 4, littleEndian) + BigInt(random.below(65) - 32);
  return put(bytes, at, numberBytes(BigInt.asUintN(32, value), 4, littleEndian));
}

function copyInside(bytes: Uint8Array, { random }: Means): Uint8Array {
  const from = somewhere(bytes, random);
  return put(bytes, somewhere(bytes, random), bytes.slice(from, from + 1 + random.below(64)));
}

function cut(bytes: Uint8Array, { samples, random }: Means): Uint8Array {
  const edge = anyOf(anyOf(samples, random).anatomy.edges, random) + random.below(3) - 1;
  return bytes.slice(0, random.chance(0.5) ? edge : random.below(bytes.length));
}

function grow(bytes: Uint8Array, { random }: Means): Uint8Array {
  const grown = new Uint8Array(Math.min(bytes.length + 1 + random.below(8192), LARGEST));
  grown.set(bytes.subarray(0, grown.length));
  return grown;
}

/** The start of one file and the rest of another. */
function splice(bytes: Uint8Array, { corpus, random }: Means): Uint8Array {
  const other = corpus.pick(random).subarray(0, LARGEST);
  const at = somewhere(bytes, random);
  const whole = new Uint8Array(Math.max(other.length, at));
  whole.set(other);
  whole.set(bytes.subarray(0, at));
  return whole;
}

/** Near the start four times out of five. */
function somewhere(bytes: Uint8Array, random: Random): number {
  return random.below(random.chance(0.8) ? Math.min(bytes.length, 1024) : bytes.length);
}

function put(bytes: Uint8Array, offset: number, piece: Uint8Array): Uint8Array {
  if (offset < bytes.length) bytes.set(piece.subarray(0, bytes.length - offset), offset);
  return bytes;
}

function anyOf<T>(values: readonly T[], random: Random): T {
  const value = values[random.below(values.length)];
  if (value === undefined) throw new Error('nothing to choose from');
  return value;
}
