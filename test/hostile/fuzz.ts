/**
 * `npm run fuzz`: goes on where the hostile suite ends. Files are changed at random, several changes on top of each
 * other; what reaches a new branch of the library is kept and changed further.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Random } from '../../src/testing/random.ts';
import { bundleChild } from './bundle.ts';
import { Corpus, mutated, nameOf } from './corpus.ts';
import type { Sample } from './descriptor.ts';
import { type CaseResult, Pool } from './pool.ts';
import type { BaseImage, HostileCase } from './protocol.ts';
import { mainOf } from './sample-files.ts';
import { baseOf, type HostileFormat, hostileKits } from './suite.ts';

const USAGE = 'usage: npm run fuzz -- --format NAME [--seconds N] [--seed S] | --format NAME --replay FILE';
const EXPECT = { opens: false, unchanged: [], sameSize: false } as const;
const BASE = 'nothing';
const KEPT = 'kept before';
/** Asking V8 for its counters takes as long as several files. */
const BATCH = 12;
const SAY_EVERY_MS = 5000;

/** Options from the command line. */
interface Wishes {
  readonly descriptor: HostileFormat;
  readonly seconds: number;
  readonly seed: number;
  readonly replay: string | undefined;
}

/** Runs the command. The exit status: 0 all well, 1 a finding, 2 a wrong call. */
export async function main(args: readonly string[], folder: string): Promise<number> {
  const wishes = wishesOf(args);
  if (typeof wishes === 'string') {
    console.error(`error: ${wishes}\n${USAGE}`);
    return 2;
  }
  const { descriptor, replay } = wishes;
  const samples = (await descriptor.samples()).filter(({ golden }) => !golden);
  const pool = new Pool({
    script: await bundleChild(),
    children: replay === undefined ? Math.min(availableParallelism(), 8) : 1,
    coverage: replay === undefined,
    batch: replay === undefined ? BATCH : 1,
  });
  pool.addBase(emptyBase(samples));
  try {
    if (replay !== undefined) return await playAgain(pool, descriptor.format, replay);
    return await new Fuzzer(pool, wishes, samples, folder).run();
  } finally {
    await pool.close();
  }
}

function wishesOf(args: readonly string[]): Wishes | string {
  const text = { type: 'string' } as const;
  let values: { format?: string; seconds?: string; seed?: string; replay?: string };
  try {
    ({ values } = parseArgs({ args: [...args], options: { format: text, seconds: text, seed: text, replay: text } }));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  const kits = hostileKits();
  const known = kits.map(({ format }) => format).join(', ');
  const descriptor = kits.find(({ format }) => format === values.format);
  if (descriptor === undefined) return `name a format with --format: ${known}`;
  const seconds = Number(values.seconds ?? 60);
  if (!(seconds > 0)) return '--seconds takes a number above 0';
  const seed = Number(values.seed ?? Date.now() % 2 ** 31);
  if (!Number.isSafeInteger(seed) || seed < 0) return '--seed takes a whole number';
  return { descriptor, seconds, seed, replay: values.replay };
}

/** No image, but all files that the samples need beside them. */
function emptyBase(samples: readonly Sample[]): BaseImage {
  const beside = samples.flatMap((sample) => baseOf(sample).beside);
  return { name: BASE, image: { name: BASE, size: 0, pieces: [] }, beside, content: null, differencing: false };
}

async function playAgain(pool: Pool, format: string, file: string): Promise<number> {
  let status = 0;
  await pool.run([caseOf(format, file, readFileSync(file))], ({ steps, findings, milliseconds }) => {
    console.log(`${file}: ${Math.round(milliseconds)} ms`);
    for (const step of steps) console.log(`  ${step}`);
    for (const finding of findings) console.log(`finding: ${finding}`);
    status = findings.length === 0 ? 0 : 1;
  });
  return status;
}

function caseOf(format: string, title: string, bytes: Uint8Array): HostileCase {
  return { title, format, base: BASE, edits: [{ offset: 0, bytes }], size: bytes.length, expect: EXPECT };
}

/** One run. */
class Fuzzer {
  readonly #pool: Pool;
  readonly #wishes: Wishes;
  readonly #samples: readonly Sample[];
  readonly #corpus: Corpus;
  readonly #findingsFolder: string;
  readonly #branches = new Set<string>();
  readonly #findings = new Map<string, string>();
  #executions = 0;
  #started = 0;
  #said = 0;

  constructor(pool: Pool, wishes: Wishes, samples: readonly Sample[], folder: string) {
    this.#pool = pool;
    this.#wishes = wishes;
    this.#samples = samples;
    this.#corpus = new Corpus(join(folder, wishes.descriptor.format, 'corpus'));
    this.#findingsFolder = join(folder, wishes.descriptor.format, 'findings');
  }

  async run(): Promise<number> {
    const { descriptor, seconds, seed } = this.#wishes;
    for (const sample of this.#samples) this.#corpus.add(mainOf(sample));
    console.log(`fuzzing ${descriptor.format} for ${seconds} s, seed ${seed}, corpus ${this.#corpus.size}`);
    this.#started = performance.now();
    this.#said = this.#started;
    await this.#pool.run(this.#cases(), (result) => this.#take(result));
    this.#say();
    for (const [finding, file] of this.#findings) {
      console.log(`finding: ${finding}`);
      console.log(`  replay: npm run fuzz -- --format ${descriptor.format} --replay ${file}`);
    }
    return this.#findings.size === 0 ? 0 : 1;
  }

  *#cases(): Generator<HostileCase> {
    const { descriptor, seconds, seed } = this.#wishes;
    const random = new Random(seed);
    const end = this.#started + seconds * 1000;
    // What was kept comes first, so that only what goes beyond it is kept in this run.
    for (const bytes of this.#corpus.members()) yield caseOf(descriptor.format, KEPT, bytes);
    while (performance.now() < end) {
      yield caseOf(descriptor.format, 'changed', mutated(this.#corpus, this.#samples, random));
    }
  }

  #take({ work, findings, newBranches }: CaseResult): void {
    this.#executions++;
    const bytes = work.edits[0]?.bytes ?? new Uint8Array(0);
    let fresh = 0;
    for (const branch of newBranches) {
      if (this.#branches.has(branch)) continue;
      this.#branches.add(branch);
      fresh++;
    }
    if (fresh > 0 && work.title !== KEPT) this.#corpus.add(bytes);
    for (const finding of findings) this.#note(finding, bytes);
    if (performance.now() - this.#said >= SAY_EVERY_MS) this.#say();
  }

  /** Findings that differ in numbers only are one. */
  #note(finding: string, bytes: Uint8Array): void {
    const [first = '', second = ''] = finding.split('\n');
    const title = `${first} ${second.trim()}`.replace(/\d+/g, 'N').trim();
    if (this.#findings.has(title)) return;
    mkdirSync(this.#findingsFolder, { recursive: true });
    const file = join(this.#findingsFolder, nameOf(bytes));
    writeFileSync(file, bytes);
    this.#findings.set(title, file);
    console.log(`FOUND ${finding}\n  in ${file}`);
  }

  #say(): void {
    this.#said = performance.now();
    const seconds = (this.#said - this.#started) / 1000;
    const perSecond = Math.round(this.#executions / seconds);
    const counts = `${this.#executions} executions, ${perSecond}/s, corpus ${this.#corpus.size}`;
    console.log(
      `${Math.round(seconds)} s: ${counts}, ${this.#branches.size} branches, ${this.#findings.size} findings`,
    );
  }
}
