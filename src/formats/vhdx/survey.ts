/** The table of an image, entry by entry: what is wrong with it, and what each wrong entry becomes. */
import { SparseBitSet } from '../../binary/bits.ts';
import { alignUp } from '../../binary/numbers.ts';
import { type EntryForm, type ScanOptions, scanEntries } from '../../blocks/table.ts';
import type { FindingList } from '../../image/finding-list.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { BAT_ENTRY, batEntries, offsetOf, stateOf } from './bat.ts';
import { isStored, problemOf } from './entries.ts';
import type { LogPlace } from './headers.ts';
import { BITMAP_BYTES, MIB, STATE } from './layout.ts';
import { takenPlaces, type VhdxState } from './state.ts';

/** Room at the end of a file that is not worth a finding: QEMU leaves as much before the first block. */
const ROOM_AT_END = 8 * MIB;

/** Entries that must change, by their index in the table. */
export type Changes = ReadonlyMap<number, number>;

interface Looking {
  readonly storage: Storage;
  readonly state: VhdxState;
  readonly findings: FindingList;
  readonly used: SparseBitSet;
  readonly changes: Map<number, number>;
  /** Chunks without a usable bitmap. */
  readonly bare: Set<number>;
  readonly taken: ReturnType<typeof takenPlaces>;
  end: number;
}

/** Looks at every entry. Returns what must be written in place of those that are wrong. */
export async function surveyTable(
  storage: Storage,
  state: VhdxState,
  log: LogPlace,
  findings: FindingList,
  options: OperationOptions,
): Promise<Changes> {
  const taken = takenPlaces(state.regions, log);
  const looking: Looking = {
    storage,
    state,
    findings,
    used: new SparseBitSet(),
    changes: new Map(),
    bare: new Set(),
    taken,
    end: 0,
  };
  for (const { fileOffset, length } of taken) claim(looking, fileOffset, length);
  const { metadata, bat } = state;
  const period = bat.ratio + 1;
  // A block can be judged only by the bitmap of its chunk, which comes later.
  if (metadata.hasParent) {
    await scan(looking, options, (entry, index) => {
      if (index % period === bat.ratio) lookAtBitmap(looking, entry, index);
    });
  }
  await scan(looking, { ...options, skipsZero: true }, (entry, index, reserved) => {
    if (index % period !== bat.ratio) lookAtBlock(looking, entry, index, reserved);
  });
  const unused = storage.size - looking.end;
  if (unused > metadata.blockSize + ROOM_AT_END) {
    const message = `${unused} bytes at the end of ${storage.label} are not used: compacting gives them back.`;
    findings.add('leak', 'unused-end', message, { fileOffset: looking.end, repairable: false });
  }
  return looking.changes;
}

function scan(
  { storage, state }: Looking,
  options: ScanOptions,
  visit: (entry: number, index: number, reserved: boolean) => void,
): Promise<void> {
  let reserved = false;
  const form: EntryForm = {
    ...BAT_ENTRY,
    get: (view, at) => {
      reserved = (view.getUint32(at, true) & 0xf_fff8) !== 0;
      return BAT_ENTRY.get(view, at);
    },
  };
  const place = { storage, fileOffset: state.regions.bat.fileOffset, count: batEntries(state.metadata), form };
  return scanEntries(place, (entry, index) => visit(entry, index, reserved), options);
}

/** Marks MiB as used. False: some of them are already. */
function claim(looking: Looking, fileOffset: number, length: number): boolean {
  const last = alignUp(fileOffset + length, MIB) / MIB;
  let isFree = true;
  for (let unit = Math.floor(fileOffset / MIB); unit < last; unit++) if (looking.used.has(unit)) isFree = false;
  if (!isFree) return false;
  for (let unit = Math.floor(fileOffset / MIB); unit < last; unit++) looking.used.add(unit);
  looking.end = Math.max(looking.end, last * MIB);
  return true;
}

function lookAtBitmap(looking: Looking, entry: number, index: number): void {
  const { storage, state, findings } = looking;
  const chunk = Math.floor(index / (state.bat.ratio + 1));
  const fileOffset = offsetOf(entry);
  const isThere = stateOf(entry) === STATE.present;
  const fits = isThere && fileOffset + BITMAP_BYTES <= storage.size && fileOffset >= MIB;
  if (fits && claim(looking, fileOffset, BITMAP_BYTES)) return;
  looking.bare.add(chunk);
  if (entry === 0) return;
  looking.changes.set(index, 0);
  const code = isThere ? 'bitmap-misplaced' : 'bitmap-state';
  const message = `The sector bitmap of chunk ${chunk} cannot be where its entry says.`;
  findings.add(isThere ? 'corruption' : 'warning', code, message, { fileOffset: entryPlace(looking, index) });
}

function lookAtBlock(looking: Looking, entry: number, index: number, reserved: boolean): void {
  const { state, findings } = looking;
  const { ratio } = state.bat;
  const chunk = Math.floor(index / (ratio + 1));
  const block = index - chunk;
  const where = { fileOffset: entryPlace(looking, index), guestOffset: block * state.metadata.blockSize };
  const status = stateOf(entry);
  if (status === STATE.notPresent || status === STATE.zero) {
    if (offsetOf(entry) === 0 && !reserved) return;
    looking.changes.set(index, status);
    findings.add('warning', 'unused-offset', `Block ${block} is not stored, but has a place.`, where);
    return;
  }
  if (!isStored(status) && status !== 4) return;
  const wrong = wrongWith(looking, entry, block, chunk);
  if (wrong !== null) {
    const { code, message, becomes, repairable = true } = wrong;
    if (repairable) looking.changes.set(index, becomes);
    findings.add('corruption', code, message, { ...where, repairable });
    return;
  }
  if (!reserved) return;
  looking.changes.set(index, entry);
  findings.add('warning', 'reserved-bits', `The entry of block ${block} has bits that must be clear.`, where);
}

interface Wrong {
  readonly code: string;
  readonly message: string;
  readonly becomes: number;
  readonly repairable?: boolean;
}

function wrongWith(looking: Looking, entry: number, block: number, chunk: number): Wrong | null {
  const { storage, state, bare } = looking;
  const { blockSize, hasParent, virtualSize } = state.metadata;
  // In a child the parent must not show in place of what is lost.
  const becomes = hasParent ? STATE.zero : STATE.notPresent;
  const fileOffset = offsetOf(entry);
  const problem = problemOf(entry, { blockSize, hasParent, taken: looking.taken });
  if (problem !== null) return { code: 'block-state', message: `${problem}: block ${block}.`, becomes };
  if (fileOffset >= storage.size) {
    return { code: 'block-beyond-end', message: `Block ${block} is said to lie beyond the end of the file.`, becomes };
  }
  if (!claim(looking, fileOffset, blockSize)) {
    return { code: 'block-shared', message: `Block ${block} lies over something else.`, becomes };
  }
  if (stateOf(entry) === STATE.partial && bare.has(chunk)) {
    const message = `Block ${block} is partly stored, but has no sector bitmap.`;
    return { code: 'bitmap-missing', message, becomes: STATE.notPresent };
  }
  const last = Math.min(blockSize, virtualSize - block * blockSize);
  if (fileOffset + last <= storage.size) return null;
  const message = `The file ends inside of block ${block}.`;
  return { code: 'block-cut-off', message, becomes: entry, repairable: false };
}

function entryPlace({ state }: Looking, index: number): number {
  return state.regions.bat.fileOffset + index * 8;
}
