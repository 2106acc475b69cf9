/** Reported positions of a chain's bytes: image, file and offset. */
import type { Mapping } from '../../image/contract.ts';
import { isPromise, type MaybePromise, type OperationOptions, type StorageExtent } from '../../storage/contract.ts';
import { Turns } from '../../storage/turns.ts';
import type { Extent, ExtentState } from '../device.ts';
import type { Chain, Located } from './chain.ts';

type DataMapping = Extract<Mapping, { kind: 'data' }>;

/** The run of a chain at `offset`, at most `length` bytes of it. */
export function extentOf(chain: Chain, offset: number, length: number): MaybePromise<Extent> {
  const located = chain.locate(chain.top, offset, length);
  return isPromise(located) ? located.then((found) => extent(chain, offset, found)) : extent(chain, offset, located);
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
      const { offset, state, image, depth, compressed, file, fileOffset }: Extent = last;
      last = { offset, length: last.length + next.length, state, image, depth, compressed, file, fileOffset };
    } else {
      if (last !== undefined) yield last;
      last = next;
    }
  }
  if (last !== undefined) yield last;
}

function extent(chain: Chain, offset: number, { mapping, image }: Located): MaybePromise<Extent> {
  if (mapping.kind === 'encoded') return encodedRun(chain, offset, mapping.length, image);
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
  if (last.compressed !== next.compressed) return false;
  return last.fileOffset === null || last.fileOffset + last.length === next.fileOffset;
}
