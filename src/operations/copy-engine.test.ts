import { describe, expect, it } from 'vitest';
import type { BlockDevice, Extent } from '../disk/device.ts';
import { ImageError } from '../errors.ts';
import type { WriteSource } from '../storage/contract.ts';
import { type CopyOptions, copyContent, PARALLEL_RUNS, RUN_BYTES, startCopy } from './copy-engine.ts';

const RUNS = 12;
const SIZE = RUNS * RUN_BYTES;
const later = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 1));
const numbers = (from: number): number[] => Array.from({ length: RUNS }, (_, n) => from + n);

/** All data; each run is filled with its own number. `now` answers `readNow`; without it the device has none. */
class Source implements BlockDevice {
  readonly label = 'source';
  readonly size = SIZE;
  readonly can: BlockDevice['can'] = { write: false, zero: false, discard: false, random: true };
  readonly blockSize: number = 0;
  readonly log: string[] = [];
  running = 0;
  readonly readNow?: (offset: number, target: Uint8Array) => boolean;
  bad: number | null = null;

  constructor(now?: (run: number) => boolean) {
    if (now === undefined) return;
    this.readNow = (offset, target) => {
      const run = offset / RUN_BYTES;
      this.log.push(`now ${run}`);
      if (!now(run)) return false;
      target.fill(run + 1);
      return true;
    };
  }

  async read(offset: number, target: Uint8Array): Promise<{ unallocated: boolean }> {
    const run = Math.floor(offset / RUN_BYTES);
    this.log.push(`read ${run}`);
    this.running++;
    await later();
    this.running--;
    if (this.bad !== null && offset <= this.bad && this.bad < offset + target.length) {
      throw new ImageError('io', 'The medium is bad here', { path: this.label, offset: this.bad });
    }
    target.fill(run + 1);
    return { unallocated: false };
  }

  extentAt(offset: number, end: number): Extent {
    const place = { image: 0, depth: 0, compressed: false, file: 'source', fileOffset: offset };
    return { offset, length: end - offset, state: 'data', ...place };
  }

  async write(_offset: number, _source: WriteSource): Promise<void> {}
  async zero(): Promise<void> {}
  async flush(): Promise<void> {}
  async close(): Promise<void> {}
}

/** Records the first byte of each run, and the number of concurrent writes. */
class Target extends Source {
  override readonly can: BlockDevice['can'];
  override readonly blockSize = RUN_BYTES;
  readonly began: number[] = [];
  readonly content: number[] = [];
  most = 0;
  fails: number | null = null;

  constructor(random = true) {
    super();
    this.can = { write: true, zero: true, discard: false, random };
  }

  override async write(offset: number, source: WriteSource): Promise<void> {
    const run = offset / RUN_BYTES;
    this.began.push(run);
    this.running++;
    this.most = Math.max(this.most, this.running);
    await later();
    this.running--;
    if (run === this.fails) throw new ImageError('no-space', 'There is no space left', { path: 'target' });
    const [first] = source;
    this.content[run] = typeof first === 'number' ? first : -1;
  }
}

const OPTIONS: CopyOptions = {
  length: SIZE,
  targetIsZero: true,
  sparseSize: 0,
  parallel: PARALLEL_RUNS,
  rateLimit: 0,
  salvage: false,
  signal: undefined,
  operation: 'copy',
  onProgress: undefined,
};

describe('a copy', () => {
  it.each([
    ['that reads at once', () => true],
    ['that reads at once now and then', (run: number) => run % 3 === 0],
    ['that never reads at once', () => false],
    ['of a device that cannot', undefined],
  ])('%s moves everything, begins writes in order and two at a time', async (_, now) => {
    const [source, target] = [new Source(now), new Target()];
    await expect(copyContent(source, target, OPTIONS)).resolves.toEqual({ written: SIZE, unreadable: [] });
    expect(target.content).toEqual(numbers(1));
    expect(target.began).toEqual(numbers(0));
    expect(target.most).toBe(2);
  });

  it('writes one at a time where requests must follow each other', async () => {
    const target = new Target(false);
    await copyContent(new Source(() => true), target, OPTIONS);
    expect(target.most).toBe(1);
    expect(target.began).toEqual(numbers(0));
  });

  it('asks less and less for what is not at hand', async () => {
    const source = new Source(() => false);
    await copyContent(source, new Target(), OPTIONS);
    expect(source.log.filter((line) => line.startsWith('now'))).toEqual(['now 0', 'now 2', 'now 5', 'now 10']);
  });

  it('reads ahead while there is no target, but not on this thread', async () => {
    const source = new Source(() => true);
    const copy = startCopy(source, OPTIONS);
    await expect.poll(() => source.log).toEqual(['read 0', 'read 1', 'read 2']);
    const target = new Target();
    await copy.into(target);
    expect(target.content).toEqual(numbers(1));
    expect(source.log.slice(3)).toEqual(
      numbers(0)
        .slice(3)
        .map((run) => `now ${run}`),
    );
  });

  it('can be given up before there is a target, with nothing still running', async () => {
    const source = new Source();
    const copy = startCopy(source, OPTIONS);
    await later();
    await copy.cancel();
    expect(source.running).toBe(0);
    const read = source.log.length;
    await later();
    expect(source.log).toHaveLength(read);
  });

  it('ends with the first failure of the target and lets the rest end', async () => {
    const target = new Target();
    target.fails = 3;
    const copy = startCopy(new Source(() => true), OPTIONS);
    await expect(copy.into(target)).rejects.toMatchObject({ kind: 'no-space' });
    expect(target.running).toBe(0);
    expect(target.began.length).toBeLessThanOrEqual(6);
    await copy.cancel();
  });

  it('saves what can be read around a bad place, also where a read at once fails', async () => {
    const source = new Source((run) => {
      if (run === 5) throw new ImageError('corrupt', 'The table is damaged here', { path: 'source' });
      return true;
    });
    source.bad = 5 * RUN_BYTES + 100_000;
    const target = new Target();
    const { unreadable } = await copyContent(source, target, { ...OPTIONS, salvage: true });
    expect(unreadable).toEqual([
      { offset: 5 * RUN_BYTES + 99_840, length: 512, reason: 'source: The medium is bad here' },
    ]);
    expect(target.content).toEqual(numbers(1));
    await expect(copyContent(source, new Target(), OPTIONS)).rejects.toMatchObject({ kind: 'io' });
  });

  it('stops when it is aborted while it waits for its target', async () => {
    const abort = new AbortController();
    const copy = startCopy(new Source(), { ...OPTIONS, signal: abort.signal });
    abort.abort();
    await expect(copy.into(new Target())).rejects.toMatchObject({ kind: 'aborted' });
  });
});
