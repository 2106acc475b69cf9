import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SparseBitSet } from '../binary/bits.ts';
import { SlotAllocator, type SlotRun } from './slot-allocator.ts';

function withSlots(slots: readonly number[], appendOnly = false): SlotAllocator {
  const used = new SparseBitSet();
  for (const slot of slots) used.add(slot);
  return new SlotAllocator(used, Math.max(...slots, -1) + 1, { appendOnly });
}

describe('SlotAllocator', () => {
  it('fills holes first, the lowest first, and then takes runs at the end', () => {
    const slots = withSlots([0, 2, 5]);
    expect(slots.holes).toBe(3);
    expect([slots.take(4), slots.take(4), slots.take(4)].map(({ first, count }) => [first, count])).toEqual([
      [1, 1],
      [3, 1],
      [4, 1],
    ]);
    expect(slots.take(4)).toEqual({ first: 6, count: 4, recycled: false });
  });

  it('appends only, where the format asks for that', () => {
    const slots = withSlots([0, 2, 5], true);
    expect([slots.holes, slots.fillable]).toEqual([3, 0]);
    expect(slots.take(2)).toEqual({ first: 6, count: 2, recycled: false });
    slots.pin(7);
    slots.seal();
    slots.settle();
    expect(slots.take(1).first).toBe(8);
    slots.giveBack({ first: 8, count: 1, recycled: false });
    expect(slots.trim()).toBe(7);
    expect(slots.take(1).first).toBe(7);
  });

  it('finds consecutive holes, the lowest ones that are long enough', () => {
    const slots = withSlots([0, 2, 5, 9]);
    expect(slots.takeHoles(2, 0, 10)).toEqual({ first: 3, count: 2, recycled: true });
    expect(slots.takeHoles(3, 0, 8)).toBeNull();
    expect(slots.takeHoles(3, 0, 9)).toMatchObject({ first: 6 });
    expect(slots.takeHoles(1, 0, 10)).toMatchObject({ first: 1 });
    expect([slots.takeHoles(1, 0, 10), slots.holes]).toEqual([null, 0]);
    expect(slots.take(1)).toMatchObject({ first: 10, recycled: false });
  });

  it('counts the slots that the medium may refer to', () => {
    const slots = withSlots([0]);
    const run = slots.take(3);
    expect(slots.committedEnd).toBe(1);
    slots.committed(run);
    expect(slots.committedEnd).toBe(4);
  });

  it('never hands out a slot that the map in memory or the one on the medium refers to', () => {
    const step = fc.constantFrom('take', 'commit', 'abort', 'free', 'seal', 'settle', 'trim');
    fc.assert(
      fc.property(fc.array(fc.tuple(step, fc.nat()), { maxLength: 80 }), fc.boolean(), (steps, appendOnly) => {
        const slots = withSlots([0, 1, 4], appendOnly);
        const open: SlotRun[] = [];
        const mapped = new Set([0, 1, 4]);
        /** Given up in memory: since the last seal, and by the flush that runs. */
        let [pinned, sealed] = [new Set<number>(), new Set<number>()];
        let flushing = false;
        const isTaken = (slot: number): boolean =>
          mapped.has(slot) || pinned.has(slot) || sealed.has(slot) || open.some((run) => contains(run, slot));
        for (const [what, number] of steps) {
          if (what === 'take') {
            const run = slots.take(1 + (number % 3));
            for (let slot = run.first; slot < run.first + run.count; slot++) expect(isTaken(slot)).toBe(false);
            open.push(run);
          } else if (what === 'commit' || what === 'abort') {
            const [run] = open.splice(number % Math.max(open.length, 1), 1);
            if (run === undefined) continue;
            if (what === 'abort') slots.giveBack(run);
            else {
              slots.committed(run);
              for (let slot = run.first; slot < run.first + run.count; slot++) mapped.add(slot);
            }
          } else if (what === 'free') {
            const slot = [...mapped][number % Math.max(mapped.size, 1)];
            if (slot === undefined) continue;
            mapped.delete(slot);
            slots.pin(slot);
            pinned.add(slot);
          } else if (what === 'seal' && !flushing) {
            slots.seal();
            [sealed, pinned, flushing] = [pinned, new Set(), true];
          } else if (what === 'settle' && flushing) {
            slots.settle();
            [sealed, flushing] = [new Set(), false];
          } else if (what === 'trim' && open.length === 0) {
            const end = slots.trim();
            for (const slot of [...mapped, ...pinned, ...sealed]) expect(slot).toBeLessThan(end);
          }
          const taken = open.reduce((sum, { count }) => sum + count, 0);
          expect(slots.used).toBe(mapped.size + pinned.size + sealed.size + taken);
        }
      }),
    );
  });
});

function contains({ first, count }: SlotRun, slot: number): boolean {
  return slot >= first && slot < first + count;
}
