/**
 * Operations of the model suite on a disk, as data: a list is made from a seed before anything runs, so that any part
 * of it can be replayed.
 */
import { alignDown } from '../../src/binary/numbers.ts';
import type { Config } from '../../src/image/contract.ts';
import type { Random } from '../../src/testing/random.ts';
import { describeInner, type InnerOperation, makeInner } from './inner-operations.ts';

/** Source of the bytes of a write: `same` is the current content of the disk, `below` that of the images below. */
export type Content = 'random' | 'zeroes' | 'mixed' | 'text' | 'same' | 'below';

/** Bytes of the disk. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

/** A read; with `now` it is tried without waiting first. */
export interface ReadOperation extends Range {
  readonly kind: 'read';
  readonly now: boolean;
}

/** A write of bytes that depend on content and seed, given as this many buffers. */
export interface WriteOperation extends Range {
  readonly kind: 'write';
  readonly content: Content;
  readonly seed: number;
  readonly buffers: number;
}

export interface ZeroOperation extends Range {
  readonly kind: 'zero';
  readonly punch: boolean;
}

/** One step. Where the disk became smaller than the list expects, ranges are cut to it. */
export type Operation =
  | ReadOperation
  | WriteOperation
  | ZeroOperation
  /** With `compare`, a second disk is opened on copies of the files and all of it is compared. */
  | { readonly kind: 'flush'; readonly compare: boolean }
  | { readonly kind: 'extents' }
  | { readonly kind: 'reopen' }
  /** Turns the disk's clock. */
  | { readonly kind: 'advance'; readonly ms: number }
  | { readonly kind: 'discard'; readonly ranges: readonly Range[] }
  | { readonly kind: 'resize'; readonly size: number; readonly shrink: boolean }
  | { readonly kind: 'compact' }
  /** A new image on top of the chain. */
  | { readonly kind: 'stack'; readonly unit: number }
  /** Shares of the chain: 0 = base, 1 = last. */
  | { readonly kind: 'merge'; readonly from: number; readonly to: number }
  /** The chain is copied elsewhere and compared. */
  | { readonly kind: 'copy' }
  | InnerOperation
  /** A filter more, or the last one less: what is stored is read otherwise from then on. */
  | { readonly kind: 'filter'; readonly add: boolean; readonly which: number }
  /** Converts stored data for one more filter; `cancelAt`: cancelled at that share, then resumed. */
  | { readonly kind: 'prepare'; readonly which: number; readonly cancelAt: number | null }
  /** A small cache is opened, or closed. */
  | { readonly kind: 'cache' }
  /** Issued one after another without waiting in between. */
  | { readonly kind: 'together'; readonly operations: readonly Operation[] };

/** Parameters for the places of operations. */
export interface Space {
  readonly size: number;
  /** Bytes of an allocation unit. */
  readonly unit: number;
  /** The disk does not grow beyond this. */
  readonly most?: number;
  /** The image keeps things inside; options of an image that the disk is converted into. */
  readonly inner?: (random: Random) => Config;
  /** With filters and a cache. */
  readonly layers?: boolean;
}

const SECTOR = 512;
/** A disk does not grow beyond this where nothing else is said. */
const MAX_SIZE = 1024 * 1024;

/** The operations of one seed. */
export function makeOperations(random: Random, space: Space): Operation[] {
  const maker = new Maker(random, space);
  // Later the last unit has mostly been written, and hides what growing must do about it.
  const first = random.chance(0.15) ? [maker.resize()] : [];
  // Where another program looks at each image, more runs are better than longer ones.
  const count = space.most === undefined ? 20 + random.below(40) : 14 + random.below(24);
  const rest = Array.from({ length: count }, () => maker.next());
  return [...first, ...rest].flatMap((operation) => {
    // Flushes that run beside writes are where changes get lost, and the next write would hide it.
    const follow = operation.kind === 'together' && random.chance(0.3);
    return follow ? [operation, { kind: 'flush', compare: true } satisfies Operation] : [operation];
  });
}

class Maker {
  readonly #random: Random;
  readonly #unit: number;
  readonly #most: number;
  readonly #inner: Space['inner'];
  #size: number;
  /** Half of the requests go here, so that they meet. */
  readonly #hot: number;
  /** The chain changes often. */
  readonly #restructures: boolean;
  readonly #layers: boolean;

  constructor(random: Random, space: Space) {
    this.#random = random;
    this.#unit = space.unit;
    this.#most = space.most ?? MAX_SIZE;
    this.#inner = space.inner;
    this.#size = space.size;
    this.#hot = random.below(space.size);
    this.#restructures = this.#inner === undefined && random.chance(0.35);
    this.#layers = space.layers === true;
  }

  next(): Operation {
    if (this.#inner !== undefined && this.#random.chance(0.35)) {
      return makeInner(this.#random, this.#range(), this.#inner);
    }
    if (this.#layers && this.#random.chance(0.18)) return this.#layer();
    if (this.#restructures && this.#random.chance(0.2)) return this.#structural();
    const roll = this.#random.below(100);
    if (roll < 38) return this.#write(this.#range());
    if (roll < 54) return this.#read(this.#range());
    if (roll < 66) return this.#zero(this.#range());
    if (roll < 74) return { kind: 'flush', compare: this.#random.chance(0.25) };
    if (roll < 83) return this.#together();
    if (roll < 85) return { kind: 'extents' };
    if (roll < 88) return { kind: 'reopen' };
    if (roll < 91) return { kind: 'advance', ms: 1 + this.#random.below(6000) };
    if (roll < 95)
      return { kind: 'discard', ranges: Array.from({ length: 1 + this.#random.below(3) }, () => this.#range()) };
    return roll < 98 ? this.resize() : { kind: 'compact' };
  }

  #structural(): Operation {
    const roll = this.#random.below(100);
    if (roll < 45) return { kind: 'stack', unit: this.#random.pick([1024, 4096, 4096, 16_384]) };
    return roll < 90 ? this.#merge() : { kind: 'copy' };
  }

  #layer(): Operation {
    const roll = this.#random.below(100);
    const which = this.#random.below(1000);
    if (roll < 45) return { kind: 'cache' };
    if (roll < 85) return { kind: 'filter', add: this.#random.chance(0.55), which };
    return { kind: 'prepare', which, cancelAt: this.#random.chance(0.5) ? this.#random.below(100) / 100 : null };
  }

  #merge(): Operation {
    return { kind: 'merge', from: this.#random.below(101) / 100, to: this.#random.below(101) / 100 };
  }

  #read(range: Range): Operation {
    return { kind: 'read', ...range, now: this.#random.chance(0.5) };
  }

  #write(range: Range): Operation {
    const content = this.#random.pick<Content>([
      'random',
      'random',
      'random',
      'random',
      'zeroes',
      'mixed',
      'same',
      'below',
    ]);
    const buffers = this.#random.chance(0.2) ? 2 + this.#random.below(3) : 1;
    return { kind: 'write', ...range, content, seed: this.#random.below(1_000_000), buffers };
  }

  #zero(range: Range): Operation {
    return { kind: 'zero', ...range, punch: this.#random.chance(0.7) };
  }

  resize(): Operation {
    const sectors = Math.floor(this.#size / SECTOR);
    const grown = sectors + this.#random.below(this.#random.chance(0.5) ? 20 : 400);
    const wanted = this.#random.chance(0.2) ? sectors - this.#random.below(40) : grown;
    const size = Math.min(wanted * SECTOR, this.#most);
    this.#size = size;
    return { kind: 'resize', size, shrink: this.#random.chance(0.7) };
  }

  #together(): Operation {
    const focus = this.#range();
    const operations = Array.from({ length: 2 + this.#random.below(7) }, () => {
      const range = this.#random.chance(0.8) ? this.#near(focus) : this.#range();
      return this.#member(range);
    });
    return { kind: 'together', operations };
  }

  /** One of several that run together. */
  #member(range: Range): Operation {
    const roll = this.#random.below(100);
    if (roll < 36) return this.#read(range);
    if (roll < 74) return this.#write(range);
    if (roll < 83) return this.#zero(range);
    if (roll < 89) return { kind: 'discard', ranges: [range] };
    if (roll < 96) return { kind: 'flush', compare: false };
    if (roll < 98) return { kind: 'advance', ms: 1 + this.#random.below(6000) };
    if (roll < 99) return this.#random.chance(0.5) ? { kind: 'compact' } : this.#merge();
    return { kind: 'extents' };
  }

  /** A range within some units around another one. */
  #near(focus: Range): Range {
    const start = Math.max(focus.offset - this.#unit, 0);
    const range = this.#range();
    const length = Math.min(range.length, 3 * this.#unit);
    return this.#clip(start + (range.offset % (2 * this.#unit)), length);
  }

  #range(): Range {
    const random = this.#random;
    const at = random.chance(0.5) ? random.below(this.#size) : this.#hot + random.below(4 * this.#unit);
    const roll = random.below(100);
    if (roll < 35) return this.#clip(alignDown(at, this.#unit), this.#unit * (1 + random.below(4)));
    if (roll < 60) return this.#clip(alignDown(at, SECTOR), SECTOR * (1 + random.below(24)));
    if (roll < 80) return this.#clip(at, 1 + random.below(3000));
    if (roll < 87) return this.#clip(alignDown(at, this.#unit) - random.below(8), 1 + random.below(16));
    if (roll < 94) return this.#clip(this.#size - random.below(2 * this.#unit), this.#size);
    return this.#clip(at, random.below(this.#size));
  }

  #clip(offset: number, length: number): Range {
    const start = Math.min(Math.max(offset, 0), this.#size - 1);
    return { offset: start, length: Math.min(Math.max(length, 1), this.#size - start) };
  }
}

/** The operation as a line of a program. */
export function describeOperation(operation: Operation, indent = ''): string {
  switch (operation.kind) {
    case 'together': {
      const lines = operation.operations.map((one) => `${indent}  ${describeCall(one)},`);
      return [`${indent}await Promise.all([`, ...lines, `${indent}]);`].join('\n');
    }
    case 'extents':
      return `${indent}for await (const extent of disk.extents()) check(extent);`;
    case 'reopen':
      return `${indent}await disk.close(); disk = await open();`;
    case 'flush':
      return `${indent}await disk.flush();${operation.compare ? ' compareWithCopy();' : ''}`;
    case 'advance':
      return `${indent}${describeCall(operation)};`;
    default:
      return `${indent}await ${describeCall(operation)};`;
  }
}

function describeCall(operation: Operation): string {
  switch (operation.kind) {
    case 'read':
      return `disk.${operation.now ? 'readNow' : 'read'}(${operation.offset}, new Uint8Array(${operation.length}))`;
    case 'write': {
      const { offset, length, content, seed, buffers } = operation;
      const bytes =
        content === 'random' || content === 'mixed'
          ? `${content}Bytes(${length}, ${seed})`
          : `${content}Bytes(${length})`;
      return `disk.write(${offset}, ${buffers > 1 ? `split(${bytes}, ${buffers})` : bytes})`;
    }
    case 'zero':
      return `disk.zero(${operation.offset}, ${operation.length}${operation.punch ? '' : ', { punch: false }'})`;
    case 'discard':
      return `disk.discard([${operation.ranges.map(({ offset, length }) => `{ offset: ${offset}, length: ${length} }`).join(', ')}])`;
    case 'resize':
      return `disk.resize(${operation.size}${operation.shrink ? ', { shrink: true }' : ''})`;
    case 'advance':
      return `clock.advance(${operation.ms})`;
    case 'stack':
      return `disk.createDiff(next(), { config: { AllocationBlockSize: ${operation.unit} } })`;
    case 'merge':
      return `disk.merge(share(${operation.from}), share(${operation.to}))`;
    case 'copy':
      return 'compareWithCopiedChain()';
    case 'compress':
    case 'snapshot':
    case 'bitmap':
    case 'convert':
      return describeInner(operation);
    case 'filter':
      return operation.add ? `disk.filters.add(filter(${operation.which}))` : 'disk.filters.remove()';
    case 'prepare':
      return `prepareFor(filter(${operation.which})${operation.cancelAt === null ? '' : `, { cancelAt: ${operation.cancelAt} }`})`;
    case 'cache':
      return 'openOrCloseCache()';
    case 'together':
      return `Promise.all([${operation.operations.map(describeCall).join(', ')}])`;
    default:
      return `disk.${operation.kind}()`;
  }
}

/** Simpler operations to try in the place of one: each alternative is a list that takes its place. */
export function simplerOperations(operation: Operation): Operation[][] {
  switch (operation.kind) {
    case 'together':
      return simplerGroup(operation.operations);
    case 'read':
      return simplerRanges(operation, operation.now ? [{ ...operation, now: false }] : []);
    case 'write': {
      const plain: Operation = { ...operation, content: 'random', buffers: 1 };
      const isPlain = operation.content === 'random' && operation.buffers === 1;
      return simplerRanges(operation, isPlain ? [] : [plain, { ...operation, buffers: 1 }]);
    }
    case 'compress':
      return simplerRanges(operation, operation.content === 'text' ? [] : [{ ...operation, content: 'text' }]);
    case 'zero':
      return simplerRanges(operation, operation.punch ? [] : [{ ...operation, punch: true }]);
    case 'discard':
      if (operation.ranges.length === 1) {
        return operation.ranges.flatMap(simplerRange).map((range) => [{ ...operation, ranges: [range] }]);
      }
      return operation.ranges.map((range) => [{ ...operation, ranges: [range] }]);
    case 'prepare':
      return operation.cancelAt === null ? [] : [[{ ...operation, cancelAt: null }]];
    case 'flush':
      return operation.compare ? [[{ ...operation, compare: false }]] : [];
    default:
      return [];
  }
}

function simplerGroup(operations: readonly Operation[]): Operation[][] {
  const without = operations.map((_, index) => operations.filter((_other, other) => other !== index));
  const replaced = operations.flatMap((operation, index) =>
    simplerOperations(operation).map((list) => operations.flatMap((other, at) => (at === index ? list : [other]))),
  );
  const groups = [...without, ...replaced].filter((list) => list.length > 1);
  return [[...operations], ...groups.map((list): Operation[] => [{ kind: 'together', operations: list }])];
}

function simplerRanges<T extends Operation & Range>(operation: T, others: readonly Operation[]): Operation[][] {
  const ranges = simplerRange(operation).map((range): Operation => ({ ...operation, ...range }));
  return [...others, ...ranges].filter((other) => !sameOperation(other, operation)).map((other) => [other]);
}

function sameOperation(one: Operation, other: Operation): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Whole sectors first, then halves: neither ever leads back. */
function simplerRange({ offset, length }: Range): Range[] {
  const aligned = offset % SECTOR === 0 && length % SECTOR === 0;
  if (aligned) {
    if (length === SECTOR) return [];
    const half = Math.max(alignDown(length / 2, SECTOR), SECTOR);
    return [
      { offset, length: half },
      { offset: offset + half, length: length - half },
    ];
  }
  const half = Math.floor(length / 2);
  const start = alignDown(offset, SECTOR);
  const whole = { offset: start, length: alignDown(offset + length - start + SECTOR - 1, SECTOR) };
  if (half === 0) return [whole];
  return [whole, { offset, length: half }, { offset: offset + half, length: length - half }];
}
