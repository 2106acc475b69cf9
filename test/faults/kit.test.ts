/** The kit must see what is wrong: each of these toy formats breaks one rule, and each is caught. */
import { describe, expect, it } from 'vitest';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import {
  type CrashReport,
  type CrashSession,
  type CrashSuite,
  checkCrashRun,
  randomTraffic,
  recordCrashRun,
  runCrashSuite,
  unmissedFlushes,
} from '../../src/testing/index.ts';
import { createToy, type OpenToy, openToy, ToyDisk, toyDataOffset } from './toy.ts';

const BLOCKS = 300;
const IMAGE = '/disk.toy';
const isMetadata = (_: string, offset: number): boolean => offset < toyDataOffset(BLOCKS);

function suiteOf(
  Disk: new (parts: OpenToy) => ToyDisk,
  build = (provider: StorageProvider) => createToy(provider, IMAGE, BLOCKS),
): CrashSuite {
  const workload = (session: CrashSession): Promise<void> => randomTraffic(session, { operations: 40, unit: 2 });
  return {
    provider: new MemoryProvider(),
    image: IMAGE,
    size: BLOCKS * 1024,
    build,
    open: async (provider) => new Disk(await openToy(provider, IMAGE)),
    sessions: [workload, workload],
  };
}

async function problemsOf(suite: CrashSuite): Promise<string> {
  const report: CrashReport = await runCrashSuite(suite, { maxStates: 800, isMetadata });
  return report.violations.map(({ problem }) => problem).join('\n');
}

class WithoutFlush extends ToyDisk {
  protected override async flushNow(): Promise<void> {
    await this.writeMap(this.sealMap());
  }
}

class OneFlush extends ToyDisk {
  protected override async flushNow(): Promise<void> {
    await this.writeMap(this.sealMap());
    await this.storage.flush();
  }
}

class WithoutLastFlush extends ToyDisk {
  protected override async flushNow(): Promise<void> {
    await this.storage.flush();
    await this.writeMap(this.sealMap());
  }
}

/** The map is copied after the data flush: it points at blocks that the flush did not cover. */
class SealedLate extends ToyDisk {
  protected override async flushNow(): Promise<void> {
    await this.storage.flush();
    await this.writeMap(this.sealMap());
    await this.storage.flush();
  }
}

/** Stale bytes of a slot that a cut left behind show up in the next session. */
class WithoutPadding extends ToyDisk {
  protected override async place(block: number, within: number, part: Uint8Array): Promise<void> {
    const slot = this.takeSlot();
    await this.storage.write(this.slotOffset(slot) + within, part);
    const end = this.slotOffset(slot + 1);
    if (this.storage.size < end) await this.storage.resize(end);
    this.point(block, slot);
  }
}

/** The map points at a slot before its data is there. */
class MapFirst extends ToyDisk {
  protected override async place(block: number, within: number, part: Uint8Array): Promise<void> {
    const slot = this.takeSlot();
    this.point(block, slot);
    await this.writeMap(this.sealMap());
    const whole = new Uint8Array(1024);
    whole.set(part, within);
    await this.storage.write(this.slotOffset(slot), whole);
  }
}

class ForgetsZeroes extends ToyDisk {
  override async zero(): Promise<void> {}
}

class WrongSector extends ToyDisk {
  override write(offset: number, source: Uint8Array): Promise<void> {
    return super.write(offset === 0 ? 512 : offset, source);
  }
}

/** One buffer for all writes, refilled while an earlier write still reads it. */
class SharedBuffer extends ToyDisk {
  readonly #buffer = new Uint8Array(512 * 1024);

  protected override async writeNow(offset: number, bytes: Uint8Array): Promise<void> {
    const part = this.#buffer.subarray(0, bytes.length);
    part.set(bytes);
    const running = super.writeNow(offset, part);
    await null;
    part.fill(0);
    await running;
  }
}

async function createUnflushed(provider: StorageProvider): Promise<void> {
  await createToy(withoutFlush(provider), IMAGE, BLOCKS);
}

/** Hands everything on but flushes of files. */
function withoutFlush(provider: StorageProvider): StorageProvider {
  return new Proxy(provider, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (name !== 'create') return typeof value === 'function' ? value.bind(target) : value;
      return async (file: string) => {
        const storage = await target.create(file);
        storage.flush = async () => {};
        return storage;
      };
    },
  });
}

async function createInPlace(provider: StorageProvider): Promise<void> {
  await createToy(provider, '/other.toy', BLOCKS);
  const [from, to] = [await provider.open('/other.toy', 'read'), await provider.create(IMAGE)];
  const bytes = new Uint8Array(from.size);
  await from.read(0, bytes);
  await provider.syncNames('/');
  await to.write(0, bytes);
  await to.flush();
}

async function createUnsynced(provider: StorageProvider): Promise<void> {
  await createToy(provider, '/other.toy', BLOCKS);
  await provider.rename('/other.toy', IMAGE, { replace: false });
}

describe('a format that breaks a rule is caught', () => {
  it.each([
    ['never flushes', WithoutFlush, /holds zeroes; allowed: write/],
    ['writes data and map before one flush', OneFlush, /cannot be used|holds/],
    ['does not flush the map', WithoutLastFlush, /holds zeroes; allowed: write/],
    ['seals the map after the data flush', SealedLate, /cannot be used|holds/],
    ['hands out stale room as fresh', WithoutPadding, /After a further session sector \d+ holds write/],
    ['writes the map before the data', MapFirst, /cannot be used|holds/],
    ['forgets zeroes', ForgetsZeroes, /holds write \d+, sector \d+; allowed: zeroes/],
    ['writes to another sector', WrongSector, /Sector 1 holds write \d+, sector 0/],
    ['changes a buffer that is being written', SharedBuffer, /changed while the write was running/],
  ])('%s', async (_, Disk, expected) => {
    expect(await problemsOf(suiteOf(Disk))).toMatch(expected);
  });

  it.each([
    ['publishes a name before its content is durable', createUnflushed, /cannot be used/],
    ['fills a file under its final name', createInPlace, /cannot be used/],
    ['does not make its name durable', createUnsynced, /gone, or has no name/],
  ])('%s', async (_, build, expected) => {
    expect(await problemsOf(suiteOf(ToyDisk, build))).toMatch(expected);
  });
});

describe('a format that follows the rules', () => {
  it('misses each of its flushes', async () => {
    // Every flush has something new to cover: a fresh block, and one that was there before.
    const rounds = async (session: CrashSession): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const fresh = 4 + 40 * round + session.random.below(20) * 2;
        await Promise.all([session.write(fresh, 2), session.write(0, 1)]);
        await Promise.all([session.flush(), session.write(1, 1)]);
      }
    };
    const run = await recordCrashRun({ ...suiteOf(ToyDisk), sessions: [rounds] });
    const unmissed = await unmissedFlushes(run, { isMetadata });
    expect(unmissed.filter(({ idle }) => !idle)).toEqual([]);
    // Create, its name, two for each flush, and one to close.
    expect(run.log.flushes.length).toBe(2 + 20 + 1);
  });

  it('is cut the same way for the same seed', async () => {
    const [one, other] = [await recordCrashRun(suiteOf(ToyDisk)), await recordCrashRun(suiteOf(ToyDisk))];
    const options = { maxStates: 300, isMetadata };
    expect(one.log.position).toBe(other.log.position);
    expect(await checkCrashRun(one, options)).toEqual(await checkCrashRun(other, options));
  });
});
