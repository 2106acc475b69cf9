/**
 * Check and repair of a VHD image that is not open elsewhere.
 *
 * A check compares both footers, the header, the table and the size of the file. A repair proceeds in this order, each step
 * durable before the next, so that it can be interrupted and repeated:
 *   1. the checksum of the header, and its number of entries where there is no room for them;
 *   2. the footer at the end, where it is missing or wrong, behind everything that the table names; then its copy;
 *   3. entries that cannot be kept. In a base they become unallocated, as VirtualBox does it; in a child the parent would show
 *      through, so they get a block of zeroes;
 *   4. a footer behind the last block, and the end of the file.
 */
import { SparseBitSet } from '../../binary/bits.ts';
import { alignUp, SECTOR } from '../../binary/numbers.ts';
import { scanEntries, U32_BIG, writeEntries } from '../../blocks/table.ts';
import { assert } from '../../errors.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { Storage } from '../../storage/contract.ts';
import { encodeFooter, type FoundFooter, findFooter } from './footer.ts';
import {
  isInSurplus,
  metadataEndBefore,
  overlaps,
  putEntries,
  readHeader,
  type VhdLayout,
  withoutSurplus,
} from './header.ts';
import { BAT_UNUSED, DISK_TYPE, type Footer } from './layout.ts';
import { NAME_ROOM } from './locators.ts';

/** Room that a new child has behind its table, for names of a parent. */
const NEW_ROOM = 2 * NAME_ROOM + SECTOR;

/** Result of looking at an image. */
interface Survey {
  readonly storage: Storage;
  readonly found: FoundFooter;
  /** Null: a fixed image. */
  readonly layout: VhdLayout | null;
  readonly findings: FindingList;
  /** Entries that cannot be kept. */
  readonly bad: SparseBitSet;
  /** End of everything but the footer. */
  readonly end: number;
}

/** Finds damage. Throws where the file is not a readable VHD image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return (await survey(mainFile(files), options)).findings.list;
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const seen = await survey(storage, options);
  const { list } = seen.findings;
  if (!list.some(({ repairable }) => repairable)) return list;
  const footer = encodeFooter(seen.found.footer);
  if (seen.layout === null) {
    await repairFixed(seen, footer);
    return list;
  }
  const { header, entries, checksumFits } = seen.layout;
  if (!checksumFits || header.entries !== entries) await putEntries(storage, seen.layout, entries);
  // Behind all that is there: nothing is written over before the table is right.
  const behind = alignUp(Math.max(seen.end, storage.size), SECTOR);
  if (seen.found.end !== 'sound') await durably(storage, behind, footer);
  if (seen.found.copy !== 'sound') await durably(storage, 0, footer);
  const end = seen.bad.size === 0 ? seen.end : await clearEntries(seen, footer, options);
  if (storage.size !== end + SECTOR) {
    await durably(storage, end, footer);
    await storage.resize(end + SECTOR);
    await storage.flush();
  }
  return list;
}

/** Writes the footer where it stands: behind a disk that was cut off, too, or zeroes would pass for the bytes that are lost. */
async function repairFixed({ storage, found }: Survey, footer: Uint8Array): Promise<void> {
  const { end, fileOffset } = found;
  assert(fileOffset !== null, 'a fixed image is found by its footer');
  if (end !== 'before zeroes') return durably(storage, fileOffset, footer);
  await storage.resize(fileOffset + SECTOR);
  await storage.flush();
}

async function durably(storage: Storage, fileOffset: number, bytes: Uint8Array): Promise<void> {
  await storage.write(fileOffset, bytes);
  await storage.flush();
}

async function survey(storage: Storage, options: FormatCheckOptions): Promise<Survey> {
  const findings = new FindingList();
  const found = await findFooter(storage, options);
  const { footer } = found;
  const isFixed = footer.type === DISK_TYPE.fixed;
  const layout = isFixed ? null : await layoutOf(storage, footer, options);
  checkFooters(found, findings);
  if (layout === null) {
    checkFixed(storage, found, findings);
    return { storage, found, layout, findings, bad: new SparseBitSet(), end: footer.currentSize };
  }
  if (!layout.checksumFits) {
    const message = 'The checksum of the header is wrong.';
    findings.add('corruption', 'header-checksum', message, { fileOffset: layout.headerOffset });
  }
  const { header, headerOffset, entries } = layout;
  if (header.entries !== entries) {
    const message = `The header counts ${header.entries} entries of the table, and there is room for ${entries}.`;
    findings.add('warning', 'entries-count', message, { fileOffset: headerOffset });
  }
  const blocks = await checkBlocks(storage, layout, findings, options);
  const slotBytes = layout.bitmapBytes + layout.blockSize;
  if (found.fileOffset !== null && found.fileOffset < blocks.end) {
    const message = 'The footer at the end lies in a block.';
    findings.add('corruption', 'footer-in-block', message, { fileOffset: found.fileOffset });
  }
  const unused = found.fileOffset === null ? 0 : alignUp(found.fileOffset, SECTOR) - blocks.end;
  // Less than a block is room that was left for something else: names of a parent.
  if (unused < Math.max(slotBytes, NEW_ROOM))
    return { storage, found, layout, findings, ...blocks, end: blocks.end + Math.max(unused, 0) };
  const message = `${unused} bytes behind the last block of ${storage.label} are not used.`;
  findings.add('leak', 'unused-end', message, { fileOffset: blocks.end });
  return { storage, found, layout, findings, ...blocks };
}

/** The layout as the blocks leave it. */
async function layoutOf(storage: Storage, footer: Footer, options: FormatCheckOptions): Promise<VhdLayout> {
  const layout = await readHeader(storage, footer, options);
  const slotBytes = layout.bitmapBytes + layout.blockSize;
  let hasSurplus = true;
  if (layout.entries > layout.blockCount) {
    await eachEntry(storage, layout, options, (entry) => {
      hasSurplus &&= !isInSurplus(layout, entry * SECTOR, slotBytes);
    });
  }
  return hasSurplus ? layout : withoutSurplus(layout);
}

function checkFooters({ end, copy, fileOffset }: FoundFooter, findings: FindingList): void {
  if (end === 'missing') findings.add('corruption', 'footer-missing', 'The footer at the end of the file is missing.');
  if (end === 'wrong checksum') {
    findings.add('corruption', 'footer-checksum', 'The checksum of the footer is wrong.', { fileOffset });
  }
  if (end === 'before zeroes') {
    const message = 'Zeroes follow the footer: the image was growing when it was cut off.';
    findings.add('corruption', 'footer-not-at-end', message, { fileOffset });
  }
  if (end === 'short') {
    findings.add('warning', 'footer-short', 'The footer has 511 bytes, which some programs do not read.', {
      fileOffset,
    });
  }
  if (copy !== null && copy !== 'sound') {
    findings.add('warning', 'footer-copy', `The copy of the footer at the start is not right: ${copy}.`, {
      fileOffset: 0,
    });
  }
}

function checkFixed(storage: Storage, { footer, fileOffset }: FoundFooter, findings: FindingList): void {
  const dataEnd = fileOffset ?? storage.size;
  if (dataEnd >= footer.currentSize) return;
  const message = `The file lacks the last ${footer.currentSize - dataEnd} bytes of the disk.`;
  findings.add('corruption', 'file-too-short', message, { guestOffset: dataEnd, repairable: false });
}

async function checkBlocks(
  storage: Storage,
  layout: VhdLayout,
  findings: FindingList,
  options: FormatCheckOptions,
): Promise<Pick<Survey, 'bad' | 'end'>> {
  const { blockCount, blockSize, bitmapBytes, places, tableOffset } = layout;
  const slotBytes = bitmapBytes + blockSize;
  const bad = new SparseBitSet();
  const starts = new Uint32Array(blockCount);
  let count = 0;
  const report = (index: number, code: string, problem: string): void => {
    bad.add(index);
    const where = { fileOffset: tableOffset + index * 4, guestOffset: index * blockSize };
    findings.add('corruption', code, () => `Block ${index} ${problem}`, where);
  };
  await eachEntry(storage, layout, options, (entry, index) => {
    const fileOffset = entry * SECTOR;
    if (places.some((place) => overlaps(place, fileOffset, slotBytes)))
      report(index, 'block-in-metadata', 'is said to lie among the metadata.');
    else if (fileOffset + slotBytes > alignUp(storage.size, SECTOR)) {
      report(index, 'block-beyond-end', 'is said to lie beyond the end of the file.');
    } else starts[count++] = entry;
  });
  const sorted = starts.subarray(0, count).sort();
  const sectors = slotBytes / SECTOR;
  const shared = new SparseBitSet();
  for (let at = 1; at < count; at++)
    if ((sorted[at] ?? 0) - (sorted[at - 1] ?? 0) < sectors) shared.add(sorted[at] ?? 0);
  const taken = new SparseBitSet();
  let end = metadataEndBefore(layout);
  await eachEntry(storage, layout, options, (entry, index) => {
    if (bad.has(index)) return;
    // The first one of several with one place keeps it; of two that overlap, the one in front.
    const overlaps = shared.has(entry) && (taken.has(entry) || overlapsOther(sorted, entry, sectors));
    if (overlaps) report(index, 'block-shared', 'lies over another one.');
    else end = Math.max(end, entry * SECTOR + slotBytes);
    taken.add(entry);
  });
  return { bad, end };
}

/** True if a block that begins in front of this one reaches into it. */
function overlapsOther(sorted: Uint32Array, entry: number, sectors: number): boolean {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] ?? 0) < entry) low = middle + 1;
    else high = middle;
  }
  const before = low > 0 ? (sorted[low - 1] ?? 0) : null;
  return before !== null && entry - before < sectors;
}

function eachEntry(
  storage: Storage,
  { tableOffset: fileOffset, blockCount: count }: VhdLayout,
  options: FormatCheckOptions,
  visit: (entry: number, index: number) => void,
): Promise<void> {
  const place = { storage, fileOffset, count, form: U32_BIG };
  return scanEntries(place, (entry, index) => entry !== BAT_UNUSED && visit(entry, index), options);
}

/** Clears the entries that cannot be kept. Returns the end of everything but the footer. */
async function clearEntries(
  { storage, found, layout, bad, end }: Survey,
  footer: Uint8Array,
  options: FormatCheckOptions,
): Promise<number> {
  if (layout === null) return end;
  const { bitmapBytes, blockSize, tableOffset, blockCount } = layout;
  const isChild = found.footer.type === DISK_TYPE.differencing;
  const place = { storage, fileOffset: tableOffset, form: U32_BIG };
  let next = end;
  for (let index = 0; isChild && index < blockCount; index++) {
    if (!bad.has(index)) continue;
    const after = next + bitmapBytes + blockSize;
    await durably(storage, after, footer);
    const block = new Uint8Array(bitmapBytes).fill(0xff);
    await storage.write(next, block);
    await storage.zero(next + bitmapBytes, blockSize, { punch: storage.can.punch });
    await storage.flush();
    const entry = next / SECTOR;
    await writeEntries(place, { start: index, end: index + 1 }, () => entry);
    await storage.flush();
    next = after;
  }
  if (isChild) return next;
  // Runs at a time: a table may hold nothing else.
  for (let start = 0; start < blockCount; start++) {
    let end = start;
    while (end < blockCount && bad.has(end)) end++;
    if (end > start) await writeEntries(place, { start, end, signal: options.signal }, () => BAT_UNUSED);
    start = end;
  }
  await storage.flush();
  return next;
}
