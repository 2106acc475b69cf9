/** One run of a workload on a medium that fails as planned, and what it must leave on the sound medium below. */
import { equalBytes, firstDifference } from '../../src/codec/bytes.ts';
import { type ErrorKind, isImageError } from '../../src/errors.ts';
import { summarize } from '../../src/image/findings.ts';
import type { Registry } from '../../src/image/registry.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { checkWith } from '../../src/testing/format-files.ts';
import {
  CrashSession,
  describeSector,
  type FaultPlan,
  FaultProvider,
  type OperationLog,
  Random,
  RecordingProvider,
  SectorModel,
} from '../../src/testing/index.ts';
import { laterWrites } from './later-writes.ts';
import { watchedRegistry } from './watched-format.ts';
import { createWay, hasInitial, imageOf, openWay, prepareWay, SECTOR, SECTORS, type Way, WRITABLE } from './ways.ts';

type LoggedOperation = Extract<OperationLog['entries'][number], { kind: 'start' }>['operation'];

/** Outcome of one run. */
export interface FaultOutcome {
  /** The planned failure happened. */
  readonly fired: boolean;
  /** Everything that is not as it must be. */
  readonly problems: readonly string[];
}

/** Runs the whole life of an image on a failing medium. */
export async function runFaults(way: Way, plan: FaultPlan): Promise<FaultOutcome> {
  const memory = new MemoryProvider();
  await prepareWay(memory, way);
  const faults = new FaultProvider(memory, plan);
  const random = new Random(7);
  const provider = new RecordingProvider(faults, { turns: () => random.below(6) });
  const run = new Run(way, provider);
  await run.life();
  const later = laterWrites(provider.log, { isFull: plan.kind === 'no-space' });
  const problems = [...run.problems, ...later, ...provider.log.hazards];
  const isTold = faults.fired && (run.errors.length > 0 || !isOvercome(provider.log));
  problems.push(...wrongErrors(run.errors, isTold ? (plan.kind ?? 'io') : null));
  problems.push(...(await found(memory, way, run)));
  return { fired: faults.fired, problems };
}

/**
 * True if all that failed was overcome: the removal of temporary names that are gone now, since they were removed at the
 * second try, and growth for which the same was written nearer next.
 */
function isOvercome({ entries }: OperationLog): boolean {
  const ended = new Set(entries.flatMap((entry) => (entry.kind === 'end' ? [entry.operation] : [])));
  const started = entries.flatMap((entry) => (entry.kind === 'start' ? [entry.operation] : []));
  const gone = new Set([...ended].flatMap((one) => (one.kind === 'remove' ? [one.from] : [])));
  const isRemoved = (one: LoggedOperation): boolean =>
    one.kind === 'remove' && one.from.endsWith('.vdkit-tmp') && gone.has(one.from);
  const isNearer = (one: LoggedOperation): boolean =>
    one.kind === 'write' &&
    [...ended].some((other) => {
      const isSame = other.kind === 'write' && other.file === one.file && equalBytes(other.bytes, one.bytes);
      return isSame && other.offset < one.offset && other.startedAt > one.startedAt;
    });
  const failed = started.filter((one) => !ended.has(one));
  return failed.length > 0 && failed.every((one) => isRemoved(one) || isNearer(one));
}

/** The first failure is the medium's own; later ones may say that there was one. */
function wrongErrors(errors: readonly unknown[], kind: ErrorKind | null): string[] {
  if (kind === null) return errors.map((error) => `Nothing was made to fail, but: ${String(error)}`);
  if (errors.length === 0) return ['Nobody was told of the failure'];
  return errors.flatMap((error, index) => {
    const right = isImageError(error) && (error.kind === kind || (index > 0 && error.kind === 'io'));
    return right ? [] : [`Wrong error: ${String(error)}${isImageError(error) ? ` (${error.kind})` : ''}`];
  });
}

class Run {
  readonly problems: string[] = [];
  readonly errors: unknown[] = [];
  readonly model: SectorModel;
  readonly log: OperationLog;
  created = false;
  readonly #way: Way;
  readonly #provider: StorageProvider;
  readonly #registry: Registry;
  #session: CrashSession | null = null;

  constructor(way: Way, provider: RecordingProvider) {
    this.#way = way;
    this.#provider = provider;
    this.log = provider.log;
    this.model = new SectorModel(SECTORS, way.diff ? hasInitial : undefined);
    this.#registry = watchedRegistry(WRITABLE, provider.log);
  }

  async life(): Promise<void> {
    await this.#try(async () => {
      await createWay(this.#provider, this.#way, this.#registry);
      this.created = true;
    });
    if (!this.created) return;
    await this.#try(async () => {
      const disk = await openWay(this.#provider, this.#way, this.#registry);
      this.#session = new CrashSession({ disk, model: this.model, log: this.log, seed: 1 });
    });
    if (this.#session === null) return;
    await this.#work(this.#session);
    await this.#close(this.#session);
  }

  /** A guest that goes on whatever fails. */
  async #work(session: CrashSession): Promise<void> {
    const { disk } = session;
    const go = (...requests: (() => Promise<void>)[]): Promise<unknown> =>
      Promise.all(requests.map((request) => this.#try(request)));
    await go(() => session.write(0, 5));
    await go(
      () => session.write(300, 1),
      () => session.write(1200, 20),
    );
    await go(() => session.flush());
    await go(
      () => session.zero(1, 3),
      () => session.zero(304, 16),
      () => session.zero(130, 12),
    );
    await go(
      () => session.flush(),
      () => session.write(100, 40),
      () => session.write(700, 9),
    );
    await go(
      () => session.write(0, 1),
      () => session.write(301, 4),
    );
    await this.#try(() => this.#readAll(session));
    if (disk.can.discard) {
      await go(
        () => session.discard(104, 16),
        () => session.discard(1203, 5),
      );
      await go(
        () => session.flush(),
        () => session.write(800, 8),
      );
      await go(() => session.write(816, 24));
    }
    await go(() => session.flush());
    // Nothing announces these two; an image that lacks them says so, and that is no failure.
    await this.#ifSupported(() => session.resize(SECTORS + 90));
    if (session.sectors > SECTORS)
      await go(
        () => session.write(SECTORS - 5, 60),
        () => session.flush(),
      );
    await this.#ifSupported(() => session.resize(SECTORS - 50));
    await this.#ifSupported(() => session.compact());
    await go(
      () => session.write(302, 10),
      () => session.write(1100, 3),
    );
    await this.#try(() => this.#readAll(session));
  }

  async #close(session: CrashSession): Promise<void> {
    const flush = this.model.beginFlush(this.log.mark('close begins'));
    await this.#try(async () => {
      await session.disk.close();
      this.model.endFlush(flush, this.log.mark('closed'));
    });
  }

  /** Checks that data read without an error is correct. */
  async #readAll({ disk }: CrashSession): Promise<void> {
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    this.problems.push(...broken(this.model, this.log.position, bytes, 'While it was open'));
  }

  async #try(run: () => Promise<void>): Promise<void> {
    try {
      await run();
    } catch (error) {
      this.errors.push(error);
    }
  }

  #ifSupported(run: () => Promise<void>): Promise<void> {
    return this.#try(() =>
      run().catch((error: unknown) => {
        if (!isImageError(error) || error.kind !== 'unsupported') throw error;
      }),
    );
  }
}

/** Problems of the image on the medium. */
async function found(provider: StorageProvider, way: Way, run: Run): Promise<string[]> {
  if ((await provider.lookUp(imageOf(way))) === null) return run.created ? ['The image is gone'] : [];
  const problems: string[] = [];
  try {
    const findings = (await checkWith(way.format, { provider, name: imageOf(way) })) ?? [];
    if (summarize(findings).corruptions > 0) problems.push(`The check finds ${JSON.stringify(findings)}`);
    const disk = await openWay(provider, way);
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    problems.push(...broken(run.model, run.log.position, bytes, 'Afterwards'));
    bytes.fill(1, 0, SECTOR);
    await disk.write(0, bytes.subarray(0, SECTOR));
    await disk.close();
    problems.push(...(await differences(provider, way, bytes)));
  } catch (error) {
    problems.push(`The image cannot be used: ${String(error)}`);
  }
  return problems;
}

function broken(model: SectorModel, position: number, bytes: Uint8Array, when: string): string[] {
  const violations = model.at(position).verify(bytes, 3);
  return violations.map(({ sector, found, allowed }) => `${when} sector ${sector} holds ${found}; allowed: ${allowed}`);
}

async function differences(provider: StorageProvider, way: Way, expected: Uint8Array): Promise<string[]> {
  const disk = await openWay(provider, way);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  await disk.close();
  const at = bytes.length === expected.length ? firstDifference(bytes, expected) : 0;
  if (at === -1) return [];
  const start = at - (at % SECTOR);
  return [
    `After a further session sector ${start / SECTOR} holds ${describeSector(bytes.slice(start, start + SECTOR))}`,
  ];
}
