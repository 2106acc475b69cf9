/** Steps that change what a guest reads: sessions of the library, and of qemu-io. */
import type { Random } from '../../src/testing/random.ts';
import type { Content } from './content.ts';
import { formatOf } from './kits.ts';
import { limited } from './limits.ts';
import type { Kind, Operation } from './plan.ts';
import { sectors } from './session.ts';
import { allowOf, type Img, MIB, pick, put, written } from './world.ts';

const SECTOR = 512;

/** Content of the disk after each operation: with discarded sectors unchanged, and zeroed. */
export interface Stages {
  readonly kept: Content;
  readonly zeroed: Content;
}

/** After an operation. */
export function apply({ kept, zeroed }: Stages, operation: Operation, ours: boolean): Stages {
  const { act, offset, length, byte } = operation;
  if (act === 'flush') return { kept, zeroed };
  if (act === 'discard') return { kept, zeroed: zeroed.filled(offset, length, 0) };
  const bytes =
    act === 'zero' ? new Uint8Array(length) : ours ? sectors(offset, length, byte) : new Uint8Array(length).fill(byte);
  const next = kept.with(offset, bytes);
  return { kept: next, zeroed: kept === zeroed ? next : zeroed.with(offset, bytes) };
}

/** The image after all operations. */
export function changed(image: Img, operations: readonly Operation[], ours: boolean): Img {
  const start: Stages = { kept: image.content, zeroed: image.content };
  const { kept, zeroed } = operations.reduce((stages, one) => apply(stages, one, ours), start);
  const compressed = operations.some(({ act }) => act === 'compress');
  const after = written(image, kept, operations, kept === zeroed ? [] : [zeroed]);
  return image.facts.compressed === null || !compressed ? after : { ...after, facts: { ...image.facts, compressed } };
}

/**
 * Any state since the last flush that ended, sector by sector: a process was killed. `flushed` counts the operations that
 * are surely in the file.
 */
export function cutContent(image: Img, operations: readonly Operation[], ours: boolean, flushed: number): Img {
  let stages: Stages = { kept: image.content, zeroed: image.content };
  const contents: Content[] = [];
  for (const [index, operation] of [...operations, null].entries()) {
    if (index >= flushed)
      contents.push(...(stages.kept === stages.zeroed ? [stages.kept] : [stages.kept, stages.zeroed]));
    if (operation !== null) stages = apply(stages, operation, ours);
  }
  const [first = image.content, ...others] = contents;
  // Which bits must be set is not certain, so none are; those of enabled bitmaps are lost as a rule.
  const bitmaps = written(image, image.content, operations).bitmaps;
  return { ...image, bitmaps, content: first, or: others };
}

/** As the writer prints it. */
function flushedOperations(output: string): number {
  return Number(/.*flushed (\d+)/s.exec(output)?.[1] ?? 0);
}

function randomOperations(
  image: Img,
  random: Random,
  acts: readonly [Operation['act'], ...Operation['act'][]],
  unit: number,
): Operation[] {
  const { size } = image.content;
  return Array.from({ length: 1 + random.below(6) }, () => {
    const act = random.pick(acts);
    const align = act === 'compress' ? image.facts.unit : unit;
    const most = Math.max(Math.floor(size / align), 1);
    const from = random.below(most);
    const long = random.pick([1, 4, 64, 600, act === 'write' ? 600 : 20_000]);
    const length = Math.min(
      (1 + random.below(Math.max(Math.floor((long * SECTOR) / align), 1))) * align,
      size - from * align,
    );
    return { act, offset: from * align, length: Math.min(length, 2 * MIB), byte: 1 + random.below(255) };
  }).filter(({ length }) => length > 0);
}

const fits = (image: Img, operations: readonly Operation[]): boolean =>
  operations.every(({ offset, length }) => offset + length <= image.content.size);

export const changeKinds: readonly Kind[] = [
  {
    name: 'vdkit session',
    weight: 16,
    propose(world, random) {
      const one = pick(world, random, (image) => !limited(image, world, 'otherChildren'));
      if (one === null) return null;
      const canCompress = one.facts.compressed !== null;
      const acts = ['write', 'write', 'write', 'zero', 'discard', 'flush', canCompress ? 'compress' : 'write'] as const;
      const operations = randomOperations(one, random, acts, random.pick([1, 512, 512, 4096]));
      return (now) => {
        const image = now.get(one.name);
        if (image === undefined || limited(image, now, 'otherChildren') || !fits(image, operations)) return null;
        const allow = allowOf(now, image.name).filter((word) => word !== '--allow');
        const session = { image: image.name, format: image.format, allow, operations };
        return {
          command: { program: 'library', words: [], session },
          after: put(now, changed(image, operations, true)),
          touched: [image.name],
          cut: (output) => [put(now, cutContent(image, operations, true, flushedOperations(output)))],
        };
      };
    },
  },
  {
    name: 'qemu-io session',
    weight: 14,
    propose(world, random) {
      const one = pick(world, random, (image) => !limited(image, world, 'otherChildren', 'qemuOpen'));
      if (one === null) return null;
      const operations = randomOperations(
        one,
        random,
        ['write', 'write', 'zero', 'discard', 'flush'],
        random.pick([512, 4096]),
      );
      const unmap = random.chance(0.5);
      return (now) => {
        const image = now.get(one.name);
        if (image === undefined || limited(image, now, 'otherChildren', 'qemuOpen') || !fits(image, operations))
          return null;
        return {
          command: {
            program: 'qemu-io',
            words: ['-f', formatOf(image).qemuName, '-d', 'unmap', ...lines(operations, unmap), image.name],
          },
          after: put(now, changed(image, operations, false)),
          touched: [image.name],
          cut: [put(now, cutContent(image, operations, false, 0))],
        };
      };
    },
  },
  {
    name: 'qemu-io write -c',
    weight: 3,
    propose(world, random) {
      const one = pick(
        world,
        random,
        (image) => !limited(image, world, 'otherChildren', 'qemuCompressTwice', 'qemuOpen'),
      );
      if (one === null) return null;
      const { unit } = one.facts;
      const [offset, byte] = [
        random.below(Math.max(Math.floor(one.content.size / unit), 1)) * unit,
        1 + random.below(255),
      ];
      const operations: Operation[] = [{ act: 'compress', offset, length: unit, byte }];
      return (now) => {
        const image = now.get(one.name);
        if (image === undefined || image.facts.unit !== unit || !fits(image, operations)) return null;
        if (limited(image, now, 'otherChildren', 'qemuCompressTwice', 'qemuOpen')) return null;
        return {
          command: {
            program: 'qemu-io',
            words: ['-f', formatOf(image).qemuName, '-c', `write -q -c -P ${byte} ${offset} ${unit}`, image.name],
          },
          after: put(now, changed(image, operations, false)),
          touched: [image.name],
          refusal: /write failed: Input\/output error/,
          // The bit is set all the same.
          refused: put(now, written(image, image.content, operations)),
        };
      };
    },
  },
];

function lines(operations: readonly Operation[], unmap: boolean): string[] {
  return operations.flatMap(({ act, offset, length, byte }) => {
    if (act === 'flush') return ['-c', 'flush'];
    if (act === 'discard') return ['-c', `discard -q ${offset} ${length}`];
    if (act === 'zero') return ['-c', `write -q -z${unmap ? ' -u' : ''} ${offset} ${length}`];
    return ['-c', `write -q -P ${byte} ${offset} ${length}`];
  });
}
