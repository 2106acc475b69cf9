/**
 * Check and repair of a VDI image that is not open elsewhere.
 *
 * A check reads header and map once and compares them with each other and with the size of the file. A repair proceeds
 * in an order in which every step improves the image:
 *   1. the file is extended if too short, and the header gets its UUIDs, size and a count that covers every remaining
 *      entry; durable;
 *   2. map entries that cannot be kept are cleared; durable;
 *   3. blocks in slots beyond what the header can count move into free ones below;
 *   4. the count is lowered to the slots in use, and the unreachable end of the file is cut off, in any order; durable.
 * So an interrupted repair can be repeated.
 *
 * An entry that cannot be kept becomes *free* in a base, as VirtualBox does it, and *zero* in a differencing image:
 * *free* would expose the parent's data.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { randomGuid } from '../../binary/guid.ts';
import { SECTOR } from '../../binary/numbers.ts';
import { EntryTable, scanEntries } from '../../blocks/table.ts';
import type { MetaWrite } from '../../image/contract.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import { allDone } from '../../storage/all-done.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { Turns } from '../../storage/turns.ts';
import { layoutObstacle, parseHeader, type VdiHeader } from './header.ts';
import { ENTRY_FREE, ENTRY_ZERO, HEADER, IMAGE_TYPE } from './layout.ts';
import { mapPlace } from './map-entries.ts';
import { moveDown } from './move-down.ts';

/** Results of a check, and the changes needed for a repair. */
interface Survey {
  readonly header: VdiHeader;
  readonly findings: readonly Finding[];
  /** Entries to clear. Bits, since a map in a hole has millions of them. */
  readonly bad: SparseBitSet;
  /** One more than the highest remaining slot in use. */
  readonly usedEnd: number;
  /** True when blocks are in slots past the range that the header can count. */
  readonly high: boolean;
  /** Minimum and maximum length of the file in bytes. */
  readonly minSize: number;
  readonly maxSize: number;
}

/** Finds every possible inconsistency of the format. Throws only if the file is not a readable VDI image. */
export async function checkVdi(storage: Storage, options: OperationOptions = {}): Promise<readonly Finding[]> {
  return (await survey(storage, options)).findings;
}

/** Repairs the findings of `checkVdi` that can be repaired. Returns the findings; a clean image is not changed. */
export async function repairVdi(storage: Storage, options: OperationOptions = {}): Promise<readonly Finding[]> {
  const found = await survey(storage, options);
  if (!found.findings.some((finding) => finding.repairable)) return found.findings;
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  await repairHeader(storage, sector, found);
  const cleared = await clearEntries(storage, found, options);
  if (cleared) await storage.flush();
  const { header } = found;
  const moved = found.high && (await moveDown({ storage, ...header }, header.blockCount, options));
  const lowered = await lowerCount(storage, sector, moved ? await survey(storage, {}) : found);
  if (lowered) await storage.flush();
  return found.findings;
}

async function survey(storage: Storage, options: OperationOptions): Promise<Survey> {
  const sector = new Uint8Array(SECTOR);
  await readPadded(storage, 0, sector);
  const header = parseHeader(sector, storage.size, storage.label);
  const list = new FindingList();
  checkHeaderFields(header, HEADER.get(sector, 'diskSize'), list);
  const scan = await surveyMap(storage, header, list, options);
  checkCount(header, scan.usedEnd, scan.used, list);
  const slotBytes = header.blockSize + header.blockExtra;
  const fixed = header.type === IMAGE_TYPE.fixed;
  const neededSlots = Math.max(fixed ? header.blockCount : 0, scan.usedEnd);
  const minSize = neededSlots === 0 ? storage.size : header.dataOffset + neededSlots * slotBytes;
  const usable = header.dataOffset + Math.max(header.blockCount, scan.usedEnd) * slotBytes;
  // On a device, or in a partition, the image does not decide how much room there is.
  const placed = ['device', 'other'].includes((await storage.identity()).kind);
  const maxSize = placed ? Math.max(usable, storage.size) : usable;
  checkLength(storage, header, minSize, maxSize, list);
  const { bad, usedEnd } = scan;
  const high = usedEnd > header.blockCount;
  return { header, findings: findingsOf(list, header), bad, usedEnd, high, minSize, maxSize };
}

/** An image that can only be read cannot be repaired. */
function findingsOf({ list: findings }: FindingList, header: VdiHeader): readonly Finding[] {
  if (layoutObstacle(header) === null) return findings;
  return findings.map((finding) => ({ ...finding, repairable: false }));
}

function checkHeaderFields(header: VdiHeader, diskSize: number, list: FindingList): void {
  if (!header.old && diskSize % SECTOR !== 0) {
    list.add('corruption', 'odd-disk-size', `The disk size ${diskSize} is not a multiple of 512; it is rounded down.`, {
      fileOffset: HEADER.fields.diskSize.offset,
    });
  }
  if (header.modificationUuid === null) {
    list.add('warning', 'no-modification-uuid', 'The modification UUID is null, which VirtualBox refuses.', {
      fileOffset: HEADER.fields.modificationUuid.offset,
    });
  }
  if (header.uuid === null) {
    list.add(
      'warning',
      'no-uuid',
      'The image has no UUID. A new one breaks the links of differencing images created from it.',
      {
        fileOffset: HEADER.fields.uuid.offset,
      },
    );
  }
  const obstacle = layoutObstacle(header);
  if (obstacle !== null)
    list.add('warning', 'read-only-layout', `The image is read-only: ${obstacle}.`, { repairable: false });
}

interface EntryScan {
  readonly bad: SparseBitSet;
  readonly usedEnd: number;
  readonly used: number;
}

async function surveyMap(
  storage: Storage,
  header: VdiHeader,
  list: FindingList,
  options: OperationOptions,
): Promise<EntryScan> {
  const { mapOffset, dataOffset, blockSize, blockExtra, blockCount, virtualSize } = header;
  const slotBytes = blockSize + blockExtra;
  const owners = new SparseBitSet();
  const bad = new SparseBitSet();
  let usedEnd = 0;
  await scanEntries(
    mapPlace(storage, header),
    (entry, index) => {
      if (entry >= ENTRY_ZERO) return;
      const start = dataOffset + entry * slotBytes;
      const tell = (code: string, what: string, repairable = true): void => {
        const guestOffset = index * blockSize;
        list.add('corruption', code, () => `Block ${index} ${what}.`, {
          fileOffset: mapOffset + index * 4,
          guestOffset: guestOffset < virtualSize ? guestOffset : null,
          repairable,
        });
      };
      if (start >= storage.size) {
        bad.add(index);
        tell('block-beyond-file', `points at slot ${entry}, which does not exist`);
        return;
      }
      if (!owners.add(entry)) {
        bad.add(index);
        tell('shared-block', `points at slot ${entry}, which an earlier block uses`);
        return;
      }
      const missing = start + blockExtra + visible(header, index) - storage.size;
      if (start + slotBytes > storage.size && missing > 0) {
        tell('block-cut-off', `is cut off by the end of the file: its last ${missing} bytes cannot be read`);
      }
      usedEnd = Math.max(usedEnd, entry + 1);
      // A resize that was cut off leaves this; QEMU would hand the slot out again.
      if (entry >= blockCount)
        tell('slot-beyond-count', `is in slot ${entry}, beyond the range of the header's counter`);
    },
    options,
  );
  return { bad, usedEnd, used: owners.size };
}

/** Bytes of a block visible to the guest. */
function visible(header: VdiHeader, index: number): number {
  return Math.min(header.blockSize, Math.max(header.virtualSize - index * header.blockSize, 0));
}

function checkCount(header: VdiHeader, usedEnd: number, used: number, list: FindingList): void {
  const { blocksAllocated } = header;
  const where = { fileOffset: HEADER.fields.blocksAllocated.offset };
  if (blocksAllocated < Math.min(usedEnd, header.blockCount)) {
    const message = `The header counts ${blocksAllocated} slots, but slot ${usedEnd - 1} is used: other programs would overwrite it.`;
    list.add('corruption', 'count-too-low', message, where);
  } else if (blocksAllocated > usedEnd && header.type !== IMAGE_TYPE.fixed) {
    list.add('leak', 'count-too-high', `The header counts ${blocksAllocated} slots, ${usedEnd} are used.`, where);
  }
  if (used < usedEnd) {
    const message = `${usedEnd - used} slots before the last used one are unused; compact frees their space.`;
    list.add('leak', 'unused-slots', message, { repairable: false });
  }
}

function checkLength(storage: Storage, header: VdiHeader, minSize: number, maxSize: number, list: FindingList): void {
  if (header.type === IMAGE_TYPE.fixed && storage.size < minSize) {
    list.add(
      'corruption',
      'file-too-short',
      `A fixed image of this size needs ${minSize} bytes, the file has ${storage.size}.`,
    );
  }
  if (storage.size > maxSize) {
    list.add('leak', 'file-too-long', `The file is ${storage.size - maxSize} bytes longer than the image can use.`, {
      fileOffset: maxSize,
    });
  }
}

async function repairHeader(storage: Storage, sector: Uint8Array, found: Survey): Promise<void> {
  const { header } = found;
  if (storage.size < found.minSize) await storage.resize(found.minSize);
  HEADER.put(sector, 'diskSize', header.virtualSize);
  if (header.uuid === null) HEADER.put(sector, 'uuid', randomGuid());
  // Whatever was wrong may have changed what is read, so children must notice.
  HEADER.put(sector, 'modificationUuid', randomGuid());
  HEADER.put(sector, 'blocksAllocated', Math.min(Math.max(header.blocksAllocated, found.usedEnd), header.blockCount));
  await storage.write(0, sector);
  await storage.flush();
}

async function clearEntries(storage: Storage, found: Survey, { signal }: OperationOptions): Promise<boolean> {
  if (found.bad.size === 0) return false;
  const { header } = found;
  const table = new EntryTable(mapPlace(storage, header));
  const marker = header.differencing ? ENTRY_ZERO : ENTRY_FREE;
  const turns = new Turns(signal, 'The repair');
  for (let index = 0; index < header.blockCount; index++) {
    const turn = turns.take();
    if (turn !== undefined) await turn;
    if (!found.bad.has(index)) continue;
    if (table.get(index) === undefined) await table.load(index);
    table.set(index, marker);
    if (table.dirtyBytes >= 1024 * 1024) await writeTable(table);
  }
  await writeTable(table);
  return true;
}

async function writeTable(table: EntryTable): Promise<void> {
  const writes: MetaWrite[] = table.seal();
  await allDone(writes.map((write) => write.storage.write(write.fileOffset, write.bytes)));
  table.settle();
}

async function lowerCount(storage: Storage, sector: Uint8Array, found: Survey): Promise<boolean> {
  const { header } = found;
  const count = header.type === IMAGE_TYPE.fixed ? header.blockCount : Math.min(found.usedEnd, header.blockCount);
  const lower = HEADER.get(sector, 'blocksAllocated') !== count;
  if (lower) {
    HEADER.put(sector, 'blocksAllocated', count);
    await storage.write(0, sector);
  }
  const shorter = storage.size > found.maxSize;
  if (shorter) await storage.resize(found.maxSize);
  return lower || shorter;
}
