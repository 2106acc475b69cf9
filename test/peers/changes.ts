/** Changes for another program to make, by a seed. */
import { Random } from '../../src/testing/random.ts';
import { rounds } from '../conformance/random.ts';
import type { PeerChange } from '../formats/peer-kit.ts';

const COMMANDS = rounds(16, 200);

/** Writes, zeroes and discards, at random places; some of them whole units, most of them not. */
export function randomChanges(seed: number, size: number): PeerChange[] {
  const random = new Random(seed);
  return Array.from({ length: COMMANDS }, (_, round) => {
    const unit = round % 3 === 0 ? 65_536 : 512;
    const units = Math.floor(size / unit);
    const first = random.below(units);
    const length = Math.min(1 + random.below(round % 5 === 0 ? 1600 : 40), units - first) * unit;
    const kind = random.below(6);
    const how = (['write', 'write', 'write', 'zero', 'unmap', 'discard'] as const)[kind] ?? 'write';
    return { how, offset: first * unit, length, byte: how === 'write' ? kind + 1 : 0 };
  });
}

/** Writes and a few zeroes. */
export function plainChanges(seed: number, size: number): PeerChange[] {
  const random = new Random(seed);
  return Array.from({ length: 16 }, (_, n) => {
    const offset = random.below(size / 512 - 1) * 512;
    const length = Math.min((1 + random.below(n % 4 === 0 ? 1000 : 20)) * 512, size - offset);
    const zero = n % 5 === 4;
    return { how: zero ? 'zero' : 'write', offset, length, byte: zero ? 0 : n + 1 };
  });
}

/** Does the changes to a model; discarded bytes are zero in it. */
export function applyChanges(changes: readonly PeerChange[], model: Uint8Array): void {
  for (const { offset, length, byte } of changes) model.fill(byte, offset, offset + length);
}

/** The bytes after the changes, where discarded ones may be as they were found. */
export function withDiscards(changes: readonly PeerChange[], model: Uint8Array, found: Uint8Array): Uint8Array {
  const allowed = model.slice();
  for (const [index, { how, offset, length }] of changes.entries()) {
    if (how !== 'discard') continue;
    const later = changes.slice(index + 1).filter((change) => change.how !== 'discard');
    for (let at = offset; at < offset + length; at += 512) {
      const kept = later.every((one) => at < one.offset || at >= one.offset + one.length);
      if (kept) allowed.set(found.subarray(at, Math.min(at + 512, offset + length)), at);
    }
  }
  return allowed;
}
