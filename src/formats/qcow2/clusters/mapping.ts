/** Answers of `Image.map`: runs of guest data, zeroes and compressed clusters. */
import { KIND } from '../../../blocks/two-level-map.ts';
import { assert } from '../../../errors.ts';
import type { Mapping } from '../../../image/contract.ts';
import type { MaybePromise } from '../../../storage/contract.ts';
import type { Qcow2State } from '../state.ts';
import { isOwn } from './entries.ts';

/** See `Image.map`. */
export function mapRange(state: Qcow2State, guestOffset: number, length: number): MaybePromise<Mapping> {
  const { map, virtualSize } = state;
  assert(guestOffset >= 0 && guestOffset < virtualSize && length > 0, 'the mapped range lies inside the disk');
  if (!map.look(guestOffset)) return map.load(guestOffset).then(() => mapRange(state, guestOffset, length));
  const end = Math.min(guestOffset + length, virtualSize);
  const { kind, position } = map;
  if (kind === KIND.broken) throw map.problem(guestOffset, end);
  const tables = kind === KIND.data ? (state.writer?.tables ?? null) : null;
  if (tables !== null && map.page !== null && !tables.isJudged(map.page)) {
    return tables.judge(guestOffset).then(() => mapRange(state, guestOffset, length));
  }
  const own = tables !== null && isOwn(map);
  const joins = (): boolean => map.page !== null && tables?.isJudged(map.page) === true && isOwn(map) === own;
  const run = map.runEnd(guestOffset, end, tables === null ? undefined : joins) - guestOffset;
  if (kind === KIND.data) {
    return dataRun(state, position, run, own && !state.guard.failed && tables?.isDamaged === false);
  }
  if (kind === KIND.encoded) return { kind: 'encoded', length: run };
  return { kind: kind === KIND.zero ? 'zero' : 'absent', length: run };
}

/** The last cluster of a file may be truncated: the missing part reads as zero. */
function dataRun({ data }: Qcow2State, fileOffset: number, length: number, writable: boolean): Mapping {
  assert(data !== null, 'an image that is read has its data');
  const available = Math.max(data.size - fileOffset, 0);
  if (available === 0) return { kind: 'zero', length };
  return { kind: 'data', storage: data, fileOffset, length: Math.min(length, available), writable };
}
