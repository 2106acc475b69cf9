/** Reported positions of a chain's bytes: image, file and offset. */
import { isDamage, reasonOf } from '../../errors.ts';
import type { Mapping } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type OperationOptions, type StorageExtent } from '../../storage/contract.ts';
import { Turns } from '../../storage/turns.ts';
import type { Extent, ExtentState } from '../device.ts';
import type { Chain, Located } from './chain.ts';
import { isStored } from './stored.ts';

type DataMapping = Extract<Mapping, { kind: 'data' }>;

/** The run of a chain at `offset`, at most `length` bytes of it. */
export function extentOf(chain: Chain, offset: number, length: number): MaybePromise<Extent> {
  const located = chain.locate(chain.top, offset, length);
  return isPromise(located) ? located.then((found) => extent(chain, offset, found)) : extent(chain, offset, located);
}

/** As `extentOf`, but a range that cannot be located is a separate run. */
export function soundOrDamaged(chain: Chain, offset: number, length: number): MaybePromise<Extent> {
  const damaged = (error: unknown): Promise<Extent> => damagedRun(chain, offset, length, error);
  try {
    const answer = extentOf(chain, offset, length);
    if (isPromise(answer)) return answer.then((found) => withParents(chain, found), damaged);
    return withParents(chain, answer);
  } catch (error) {
    return damaged(error);
  }
}

/** Ranges of parents that were not opened cannot be read. */
function withParents(chain: Chain, found: Extent): MaybePromise<Extent> {
  const { state, offset, length } = found;
  return state === 'absent' && chain.incomplete !== null ? damagedRun(chain, offset, length, null) : found;
}

async function damagedRun(chain: Chain, offset: number, length: number, thrown: unknown): Promise<Extent> {
  if (thrown !== null && !isDamage(thrown)) throw thrown;
  const found = await chain.damageAt(offset, length);
  if (found === null) {
    // The place was found, but not what the storage has there: reading decides.
    const { mapping, image } = await chain.locate(chain.top, offset, length);
    return run(chain, offset, mapping.length, isStored(mapping) ? 'data' : mapping.kind, image, null, null);
  }
  return { ...run(chain, offset, found.length, 'damaged', found.image, null, null), reason: reasonOf(found.error) };
}

/** All runs of `[start, end)`, neighbours of one kind joined. */
export async function* joined(
  start: number,
  end: number,
  extentAt: (at: number) => MaybePromise<Extent>,
  { signal }: OperationOptions = {},
): AsyncGenerator<Extent, void, void> {
  let last: Extent | undefined;
  const turns = new Turns(signal, 'Mapping');
  for (let at = start; at < end; ) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    const answer = extentAt(at);
    const next: Extent = isPromise(answer) ? await answer : answer;
    at += next.length;
    if (last !== undefined && follows(last, next)) {
      last = longer(last, next.length);
    } else {
      if (last !== undefined) yield last;
      last = next;
    }
  }
  if (last !== undefined) yield last;
}

/** Literals of two shapes only, and those of damage are rare. */
function longer(last: Extent, more: number): Extent {
  const { offset, state, image, depth, compressed, file, fileOffset, reason } = last;
  const joint = { offset, length: last.length + more, state, image, depth, compressed, file, fileOffset };
  return reason === undefined ? joint : { ...joint, reason };
}

function extent(chain: Chain, offset: number, { mapping, image }: Located): MaybePromise<Extent> {
  if (mapping.kind === 'encoded') {
    const isZero = mapping.zero === true;
    return isZero
      ? run(chain, offset, mapping.length, 'zero', image, null, null)
      : encodedRun(chain, offset, mapping.length, image);
  }
  if (mapping.kind !== 'data') return run(chain, offset, mapping.length, mapping.kind, image, null, null);
  // A hole is read through the filters like any other bytes.
  if (chain.filters.active) {
    return run(chain, offset, mapping.length, 'data', image, mapping.storage.label, mapping.fileOffset);
  }
  const answer = mapping.storage.extentAt(mapping.fileOffset);
  return isPromise(answer)
    ? answer.then((found) => dataExtent(chain, offset, mapping, image, found))
    : dataExtent(chain, offset, mapping, image, answer);
}

/** Allocated bytes, as far as they are data in the file or a hole. */
function dataExtent(chain: Chain, offset: number, mapping: DataMapping, image: number, found: StorageExtent): Extent {
  const length = Math.min(mapping.length, found.end - mapping.fileOffset);
  return found.data
    ? run(chain, offset, length, 'data', image, mapping.storage.label, mapping.fileOffset)
    : run(chain, offset, length, 'zero', image, null, null);
}

/** One literal of one shape: a map of a large disk creates hundreds of thousands of them. */
function run(
  chain: Chain,
  offset: number,
  length: number,
  state: ExtentState,
  image: number,
  file: string | null,
  fileOffset: number | null,
): Extent {
  const found = image !== -1;
  const depth = found ? chain.top - image : null;
  return { offset, length, state, image: found ? image : null, depth, compressed: false, file, fileOffset };
}

function encodedRun(chain: Chain, offset: number, length: number, image: number): Extent {
  const depth = chain.top - image;
  return { offset, length, state: 'data', image, depth, compressed: true, file: null, fileOffset: null };
}

function follows(last: Extent, next: Extent): boolean {
  if (last.state !== next.state || last.image !== next.image || last.file !== next.file) return false;
  if (last.compressed !== next.compressed || last.reason !== next.reason) return false;
  return last.fileOffset === null || last.fileOffset + last.length === next.fileOffset;
}
