/**
 * Check and repair of a VMDK image that is not open elsewhere: its descriptor and each of its extents. A repair gives the
 * content new identities first, so that children notice that what they hide may read otherwise.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { isImageError } from '../../errors.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OpenMode, Storage } from '../../storage/contract.ts';
import { changeIdentities } from './change.ts';
import { checkSeSparse } from './check-sesparse.ts';
import { checkSparse, OVERLAP } from './check-sparse.ts';
import { EXTENT_TYPES, type ExtentLine } from './descriptor/extents.ts';
import { contentId, hasParent, KEYS, randomContentId } from './descriptor/facts.ts';
import type { DescriptorStore } from './descriptor/store.ts';
import { readLayout } from './extents/cowd.ts';
import { openStream } from './extents/stream-open.ts';
import { linesOf, type MainFile, readMain } from './open.ts';
import { findOverlap } from './overlaps.ts';

/** Code of the finding after which nothing may be repaired. */
const EXTENTS_OVERLAP = 'extents-overlap';

/** Finds damage. Throws only where the file is not a readable VMDK image, or an extent must not be opened. */
export async function checkVmdk(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const job = await begin(files, 'read', options);
  return survey(job, false);
}

/** Repairs what `checkVmdk` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repairVmdk(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const job = await begin(files, 'write', options);
  const found = await survey(job, false);
  if (!found.some(({ repairable }) => repairable)) return found;
  const { descriptor } = job.main;
  const renews = found.some(({ severity, repairable }) => repairable && severity === 'corruption');
  const nameless = found.some(({ code, repairable }) => repairable && code === 'no-content-id');
  if (descriptor !== null && (renews || nameless)) await renew(descriptor);
  await survey(job, true);
  return found;
}

/** An image to check. */
interface Job {
  readonly files: ImageFiles;
  readonly main: MainFile;
  readonly lines: readonly ExtentLine[];
  readonly mode: OpenMode;
  readonly options: FormatCheckOptions;
  readonly opened: Map<string, Storage>;
}

async function begin(files: ImageFiles, mode: OpenMode, options: FormatCheckOptions): Promise<Job> {
  const main = await readMain(mainFile(files));
  return { files, main, lines: linesOf(main), mode, options, opened: new Map() };
}

async function survey(job: Job, repair: boolean): Promise<readonly Finding[]> {
  const findings = new FindingList();
  checkDescriptor(job.main, findings);
  let start = 0;
  for (const line of job.lines) {
    await checkLine(job, { line, start, repair, findings });
    start += line.sectors * SECTOR;
  }
  await checkOverlaps(job, findings);
  if (!findings.list.some(({ code }) => code === OVERLAP || code === EXTENTS_OVERLAP)) return findings.list;
  return findings.list.map((finding) => ({ ...finding, repairable: false }));
}

async function checkOverlaps({ main, lines, opened }: Job, findings: FindingList): Promise<void> {
  const storageOf = ({ type, file }: ExtentLine): Storage | null => {
    const own = EXTENT_TYPES[type] !== 'flat' && main.layout !== null;
    return own && file !== null ? main.storage : (opened.get(file ?? '') ?? null);
  };
  const overlap = await findOverlap({ main, lines, storageOf });
  if (overlap === null) return;
  const message = `Extent ${overlap.number} cannot be where its line says: ${overlap.found}.`;
  findings.add('corruption', EXTENTS_OVERLAP, message, { repairable: false });
}

function checkDescriptor({ descriptor, storage }: MainFile, findings: FindingList): void {
  if (descriptor === null) {
    findings.add('warning', 'no-descriptor', `${storage.label} has no descriptor.`, { repairable: false });
  } else if (contentId(descriptor.text) === null) {
    const message = 'The image has no content ID, which other programs refuse.';
    findings.add('warning', 'no-content-id', message, { repairable: hasRoomForId(descriptor) });
  }
}

/** New identities; a content ID also where there was none, if it has room. */
async function renew(descriptor: DescriptorStore): Promise<void> {
  const text = descriptor.draft();
  if (contentId(text) === null && hasRoomForId(descriptor)) text.set(KEYS.cid, randomContentId(), descriptor.path);
  changeIdentities(text, descriptor.path);
  await descriptor.overwrite(text);
}

/** The room of an embedded descriptor is bounded. */
function hasRoomForId(descriptor: DescriptorStore): boolean {
  const text = descriptor.draft();
  text.set(KEYS.cid, randomContentId(), descriptor.path);
  return descriptor.hasRoom(text);
}

/** One extent within a check. */
interface CheckedLine {
  readonly line: ExtentLine;
  readonly start: number;
  readonly repair: boolean;
  readonly findings: FindingList;
}

async function checkLine(job: Job, checked: CheckedLine): Promise<void> {
  const { line, findings } = checked;
  const kind = EXTENT_TYPES[line.type];
  if (kind === 'zero' || line.access === 'NOACCESS') return;
  if (kind === 'mapped') {
    const message = `Extents of type ${line.type} are not checked.`;
    return findings.add('warning', 'unchecked-extent', message, { repairable: false });
  }
  try {
    const own = kind !== 'flat' && kind !== 'sesparse' && job.main.layout !== null;
    const storage = own ? job.main.storage : await openPart(job, line);
    if (kind === 'flat') await checkFlat(storage, checked);
    else if (kind === 'sesparse') await checkEntries(job, storage, checked);
    else await checkTables(job, storage, checked);
  } catch (error) {
    if (!isImageError(error) || !['not-found', 'corrupt', 'invalid-format'].includes(error.kind)) throw error;
    const code = error.kind === 'not-found' ? 'extent-missing' : 'extent-unreadable';
    findings.add('corruption', code, `${error.message}: ${line.file ?? job.main.storage.label}.`, {
      guestOffset: checked.start,
      repairable: false,
    });
  }
}

async function openPart({ files, mode, opened }: Job, { file, access }: ExtentLine): Promise<Storage> {
  const name = file ?? '';
  const known = opened.get(name);
  if (known !== undefined) return known;
  const storage = await files.open({ name, role: 'extent', part: true }, access === 'RW' ? mode : 'read');
  opened.set(name, storage);
  return storage;
}

async function checkFlat(storage: Storage, { line, start, repair, findings }: CheckedLine): Promise<void> {
  const end = (line.offset + line.sectors) * SECTOR;
  const missing = end - storage.size;
  if (missing <= 0) return;
  const guestOffset = start + Math.max(0, storage.size - line.offset * SECTOR);
  findings.add('corruption', 'extent-too-short', `${storage.label} lacks its last ${missing} bytes, which read zero.`, {
    guestOffset,
    repairable: storage.can.write || !repair,
  });
  if (!repair || !storage.can.write) return;
  await storage.resize(end);
  await storage.flush();
}

async function checkEntries({ options }: Job, storage: Storage, { line, start, findings }: CheckedLine): Promise<void> {
  await checkSeSparse({ storage, length: line.sectors * SECTOR, start }, findings, { signal: options.signal });
}

async function checkTables({ main, options }: Job, storage: Storage, checked: CheckedLine): Promise<void> {
  const { line, start, repair, findings } = checked;
  const length = line.sectors * SECTOR;
  const layout = storage === main.storage && main.layout !== null ? main.layout : await readLayout(storage);
  const { signal } = options;
  if (layout.compressed || layout.directoryOffset === null) {
    const stream = await openStream(storage, layout, { length, infoOnly: false, signal });
    for (const message of stream.warnings) findings.add('corruption', 'stream-damaged', message, { repairable: false });
    for await (const { message, context } of stream.damaged({ signal })) {
      const at = start + Number(context['guestOffset']);
      const where = { guestOffset: at, fileOffset: Number(context['offset']), repairable: false };
      findings.add('corruption', 'grain-damaged', `${message}: the grain of byte ${at} of the disk.`, where);
    }
    return;
  }
  const differencing = isChild(main);
  await checkSparse({ storage, layout, length, start, differencing }, findings, { repair, signal });
}

function isChild({ descriptor }: MainFile): boolean {
  return descriptor !== null && hasParent(descriptor.text);
}
