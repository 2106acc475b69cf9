/** A disk with internal snapshots beside plain arrays that say what it must read, and what each snapshot must. */
import { expect } from 'vitest';
import { Disk } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';

/** Place of the image. */
export interface SnapshotPlace {
  readonly provider: StorageProvider;
  readonly name: string;
}

/** See the head of this file. */
export class SnapshotModel {
  readonly kept = new Map<string, Uint8Array>();
  active: Uint8Array;
  readonly #place: SnapshotPlace;
  readonly #random: Random;
  #made = 0;

  constructor(place: SnapshotPlace, active: Uint8Array, random: Random) {
    this.#place = place;
    this.active = active;
    this.#random = random;
  }

  open(snapshot?: string): Promise<Disk> {
    const how = snapshot === undefined ? { mode: 'write' as const } : { snapshot };
    return Disk.open(this.#place, { ...how, format: 'qcow2', flushAfterMs: 0, allow: ['same-directory'] });
  }

  /** Some requests, and some work on the snapshots. */
  async session(steps: number): Promise<void> {
    await using disk = await this.open();
    for (let step = 0; step < steps; step++) {
      if (this.#random.below(4) === 0) await this.#structural(disk);
      else await this.change(disk);
    }
  }

  /** Writes, zeroes or discards a range. */
  async change(disk: Disk): Promise<void> {
    const random = this.#random;
    const sectors = disk.size / 512;
    const how = random.below(8);
    // Parts of units that are discarded change at some later time.
    const unit = how < 7 && random.below(2) === 0 ? 1 : disk.blockSize / 512;
    const first = Math.floor(random.below(sectors) / unit) * unit;
    const count = Math.min((1 + random.below(4)) * unit, sectors - first);
    const [offset, length] = [first * 512, count * 512];
    if (how < 6) {
      const bytes = randomBytes(random, length);
      this.active.set(bytes, offset);
      await disk.write(offset, bytes);
    } else if (how === 6) {
      this.active.fill(0, offset, offset + length);
      await disk.zero(offset, length);
    } else {
      await disk.discard([{ offset, length }]);
      // Discarded bytes may be what they were, or zero.
      await disk.read(offset, this.active.subarray(offset, offset + length));
    }
    if (random.below(5) === 0) await disk.flush();
  }

  async #structural(disk: Disk): Promise<void> {
    const random = this.#random;
    const names = [...this.kept.keys()];
    const some = names[random.below(names.length)];
    const what = random.below(names.length > 5 ? 3 : 6);
    if (some === undefined || what > 3) {
      const name = `snap ${++this.#made}`;
      this.kept.set(name, this.active.slice());
      await disk.snapshots.create(name, { createdMs: 1_700_000_000_000 + this.#made });
    } else if (what === 0) {
      await disk.snapshots.apply(some);
      this.active = this.kept.get(some)?.slice() ?? this.active;
    } else if (what === 1 || what === 2) {
      await disk.snapshots.delete(some);
      this.kept.delete(some);
    } else {
      const name = `renamed ${++this.#made}`;
      this.kept.set(name, this.kept.get(some) ?? this.active);
      this.kept.delete(some);
      await disk.snapshots.rename(some, name);
    }
    await this.expectActive(disk);
  }

  async expectActive(disk: Disk): Promise<void> {
    await expectContent(disk, this.active, 'the disk');
  }

  /** The disk and each snapshot read what they must. */
  async expectAll(): Promise<void> {
    {
      await using disk = await this.open();
      await this.expectActive(disk);
      const names = disk.snapshots.list.map(({ name }) => name);
      expect(new Set(names)).toEqual(new Set(this.kept.keys()));
    }
    for (const [name, bytes] of this.kept) {
      await using disk = await this.open(name);
      await expectContent(disk, bytes, name);
    }
  }
}

async function expectContent(disk: Disk, wanted: Uint8Array, what: string): Promise<void> {
  expect(disk.size, what).toBe(wanted.length);
  const bytes = new Uint8Array(disk.size);
  await disk.read(0, bytes);
  const compared = Buffer.compare(bytes, wanted);
  const first = compared === 0 ? -1 : bytes.findIndex((byte, at) => byte !== wanted[at]);
  expect(first, `${what}: first byte that differs`).toBe(-1);
}
