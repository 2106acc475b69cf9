/**
 * Check and repair of a VHDX image that is not open elsewhere.
 *
 * A repair proceeds in this order, each step durable before the next, so that it can be interrupted and repeated: the log is
 * replayed, or given up where it has no valid entry; headers and region tables are copied from the one that is sound; wrong
 * entries of the BAT are replaced, through the log. In a base a block that cannot be kept becomes absent; in a child it
 * becomes zero, since the parent would show through.
 */
import { isNullGuid, NULL_GUID, randomGuid } from '../../binary/guid.ts';
import { alignUp } from '../../binary/numbers.ts';
import { ChangeGuard } from '../../blocks/guarded.ts';
import { throwIfAborted } from '../../errors.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { OverlayStorage } from '../../storage/overlay.ts';
import { BAT_ENTRY } from './bat.ts';
import { type FoundHeaders, findHeaders, Headers, type LogPlace, lostHeaders } from './headers.ts';
import { HEADER_OFFSETS, MIB, REGION_OFFSETS } from './layout.ts';
import { checkSequence, findSequence, type LogSequence, replay } from './log-reader.ts';
import { PageEdits } from './pages.ts';
import { scanRoom } from './room.ts';
import { VhdxSession } from './session.ts';
import { readState, takenPlaces, type VhdxState } from './state.ts';
import { type Changes, surveyTable } from './survey.ts';

/** Entries that one step of a repair replaces: their pages fit into one entry of the log. */
const AT_A_TIME = 100;

interface Survey {
  readonly found: FoundHeaders;
  /** Both headers are damaged, and `found` stands for them. */
  readonly isLost: boolean;
  /** Entries of the log; null: it is empty, or has no valid one. */
  readonly sequence: LogSequence | null;
  readonly state: VhdxState;
  readonly changes: Changes;
  readonly findings: FindingList;
}

/** Finds damage. Throws where the file is not a readable VHDX image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return (await survey(mainFile(files), options)).findings.list;
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const file = mainFile(files);
  const { found, isLost, sequence, state, changes, findings } = await survey(file, options);
  const { list } = findings;
  if (!list.some(({ repairable }) => repairable)) return list;
  if (sequence !== null) await replay(file, sequence, checkSequence(sequence, file, found.log));
  const headers = new Headers(file, found);
  await repairTables(file, state);
  const log = isLost ? await roomForLog(file, state, options) : found.log;
  const place = { logOffset: BigInt(log.fileOffset), logLength: log.length };
  await headers.change({ logGuid: NULL_GUID, fileWriteGuid: randomGuid(), ...place });
  if (changes.size > 0) await repairEntries(file, headers, { log, state, changes }, options);
  return list;
}

async function survey(file: Storage, options: FormatCheckOptions): Promise<Survey> {
  const findings = new FindingList();
  const lost = await lostHeaders(file, options);
  const found = lost ?? (await findHeaders(file, options));
  const sequence = await pendingLog(file, found, findings, options);
  const storage = sequence === null ? file : new OverlayStorage(file);
  if (sequence !== null) await replay(storage, sequence, checkSequence(sequence, file, found.log));
  const guard = new ChangeGuard(file.label);
  const state = await readState(storage, found.log, { write: false, guard, signal: options.signal });
  reportStates(found, state, findings);
  const changes = await surveyTable(storage, state, found.log, findings, options);
  return { found, isLost: lost !== null, sequence, state, changes, findings };
}

async function pendingLog(
  file: Storage,
  { header, log }: FoundHeaders,
  findings: FindingList,
  options: OperationOptions,
): Promise<LogSequence | null> {
  if (isNullGuid(header.logGuid)) return null;
  const sequence = await findSequence(file, log, header.logGuid, options);
  const where = { fileOffset: log.fileOffset };
  if (sequence === null) findings.add('corruption', 'log-damaged', 'The log has no valid entry.', where);
  else findings.add('warning', 'log-pending', `${file.label} was not closed: its log has to be replayed.`, where);
  return sequence;
}

/** The lowest MiB that nothing takes; behind the file where entries lie over each other. */
async function roomForLog(
  file: Storage,
  { bat, metadata, regions }: VhdxState,
  options: OperationOptions,
): Promise<LogPlace> {
  const facts = { ...metadata, taken: takenPlaces(regions, { fileOffset: 0, length: 0 }) };
  const { room, obstacle } = await scanRoom(file, bat, facts, options);
  const fileOffset = obstacle === null ? room.takeMib(1).fileOffset : alignUp(file.size, MIB);
  if (file.size < fileOffset + MIB) await file.resize(fileOffset + MIB);
  return { fileOffset, length: MIB };
}

function reportStates({ states }: FoundHeaders, { regions }: VhdxState, findings: FindingList): void {
  if (states.every((status) => status !== 'current')) {
    const message = 'Both headers are damaged: new ones cut the link to children, and what was not finished is lost.';
    findings.add('corruption', 'headers-lost', message, { fileOffset: HEADER_OFFSETS[0] });
  }
  for (const [at, status] of states.entries()) {
    if (status === 'current' || status === 'old') continue;
    const message = `Header ${at + 1} is damaged: ${status}.`;
    findings.add('warning', 'header-damaged', message, { fileOffset: HEADER_OFFSETS[at] ?? null });
  }
  for (const [at, status] of regions.states.entries()) {
    if (status === 'sound') continue;
    const message = `Region table ${at + 1} is damaged: ${status}.`;
    findings.add('warning', 'region-table-damaged', message, { fileOffset: REGION_OFFSETS[at] ?? null });
  }
}

async function repairTables(file: Storage, { regions }: VhdxState): Promise<void> {
  for (const [at, status] of regions.states.entries()) {
    const fileOffset = REGION_OFFSETS[at];
    if (status === 'sound' || fileOffset === undefined) continue;
    await file.write(fileOffset, regions.bytes);
    await file.flush();
  }
}

async function repairEntries(
  file: Storage,
  headers: Headers,
  { log, state, changes }: Pick<Survey, 'state' | 'changes'> & { readonly log: LogPlace },
  { signal }: OperationOptions,
): Promise<void> {
  const end = alignUp(file.size, MIB);
  const session = new VhdxSession({
    storage: file,
    headers,
    log,
    fileEnd: () => end,
    takeLog: () => end,
  });
  await session.begin(true);
  const all = [...changes];
  for (let at = 0; at < all.length; at += AT_A_TIME) {
    throwIfAborted(signal, 'The repair');
    const edits = new PageEdits(file);
    for (const [index, entry] of all.slice(at, at + AT_A_TIME)) {
      const bytes = new Uint8Array(8);
      BAT_ENTRY.put(new DataView(bytes.buffer), 0, entry);
      await edits.put(state.regions.bat.fileOffset + index * 8, bytes);
    }
    await session.write(edits.list);
  }
  await session.end();
}
