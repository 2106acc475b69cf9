/** Creation of an empty VMDK image. The descriptor is written last: files without it are not an image. */
import { NULL_GUID, normalizeGuid, randomGuid } from '../../binary/guid.ts';
import { alignUp, divCeil, SECTOR } from '../../binary/numbers.ts';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatCreateOptions } from '../../image/contract.ts';
import { derivePhysical, type Geometry } from '../../image/geometry.ts';
import { storedName } from '../../image/parent.ts';
import { preallocate } from '../../image/preallocate.ts';
import type { NewFiles, Storage } from '../../storage/contract.ts';
import { parentCidFor, recordedFormat } from './change.ts';
import { CONFIG, LEVELS, SUBFORMATS } from './config.ts';
import { type ExtentType, formatExtent, parseExtent } from './descriptor/extents.ts';
import { KEYS, NO_PARENT_CID, randomContentId, setComment, setGeometry, setUuids } from './descriptor/facts.ts';
import { DescriptorStore } from './descriptor/store.ts';
import { DescriptorText } from './descriptor/text.ts';
import { newCowd } from './extents/cowd.ts';
import { parseSparse } from './extents/header.ts';
import { HEADER, writeSparse } from './extents/sparse-new.ts';
import { NewStream } from './extents/stream-new.ts';
import { VmdkImage } from './image.ts';
import { COMPRESSION, DESCRIPTOR_SECTORS, FLAG, GD_AT_END, SPARSE_HEADER, type SparseHeader } from './layout.ts';
import { baseName, type PlannedExtent, planVmdk, type VmdkPlan } from './plan.ts';

/** Name of a stream that has none, as vSphere writes it. */
const STREAM_NAME = 'generated-stream.vmdk';
/** Extents of ESX have separate types. */
const ESX_TYPES: Readonly<Record<string, ExtentType>> = { vmfs: 'VMFS', vmfsSparse: 'VMFSSPARSE' };

/** Writes a new image and flushes it. Returns the files beside the main one, by the name that the image stores. */
export async function writeNewVmdk(
  files: NewFiles,
  options: FormatCreateOptions,
): Promise<ReadonlyMap<string, Storage>> {
  const plan = planVmdk(options, files.name);
  const text = newDescriptor(plan, options, files);
  if (plan.subformat === 'streamOptimized') throw new Error('internal: streams are written by writeNewStream');
  const embedded = plan.extents.length === 1 && plan.extents[0]?.file === null;
  const bytes = text.bytes();
  if (embedded && bytes.length > (DESCRIPTOR_SECTORS - 1) * SECTOR) throw descriptorTooLong(bytes.length);
  await checkSpace(files, plan);
  const parts = new Map<string, Storage>();
  for (const extent of plan.extents) {
    throwIfAborted(options.signal, 'Creating the image');
    const storage = extent.file === null ? files.main : await files.part(extent.file);
    if (extent.file !== null) parts.set(extent.file, storage);
    if (plan.isFlat) await writeFlat(storage, extent.sectors * SECTOR, plan, options);
    else if (plan.isCowd) await storage.write(0, newCowd(extent.sectors, plan.grainSectors, geometryOf(plan, options)));
    else await writeSparse(storage, extent, { plan, embedded });
    if (extent.file !== null) await storage.flush();
  }
  if (embedded) {
    const padded = new Uint8Array(DESCRIPTOR_SECTORS * SECTOR);
    padded.set(bytes);
    await files.main.write(SECTOR, padded);
  } else {
    await files.main.write(0, bytes);
  }
  await files.main.flush();
  return parts;
}

/** An extent that reads zero: one hole, unless its space is asked for. */
async function writeFlat(
  storage: Storage,
  length: number,
  plan: VmdkPlan,
  options: FormatCreateOptions,
): Promise<void> {
  if (plan.preallocates > 0) await preallocate(storage, 0, length, options);
  else await storage.resize(length);
}

/** Writes the beginning of a stream, header and descriptor, and reads nothing back: it may be a pipe. Its grains follow. */
export async function writeNewStream(files: NewFiles, options: FormatCreateOptions): Promise<VmdkImage> {
  const plan = planVmdk(options, files.name);
  const { main: storage } = files;
  // In a pipe there is no name yet. Readers take the file that the descriptor is in, whatever its line says.
  const own = storage.can.random ? files.name : STREAM_NAME;
  const descriptor = newDescriptor(plan, options, files, own);
  const text = descriptor.bytes();
  const sectors = divCeil(text.length + 1, SECTOR);
  const capacity = alignUp(plan.virtualSize / SECTOR, plan.grainSectors);
  const header: SparseHeader = {
    ...HEADER,
    version: 3,
    flags: FLAG.newlines | FLAG.compressed | FLAG.markers,
    capacity,
    grainSize: plan.grainSectors,
    descriptorOffset: 1,
    descriptorSize: sectors,
    directoryOffset: GD_AT_END,
    overhead: alignUp(1 + sectors, plan.grainSectors),
    compression: COMPRESSION.deflate,
  };
  const start = new Uint8Array(header.overhead * SECTOR);
  start.set(SPARSE_HEADER.encode(header));
  start.set(text, SECTOR);
  await files.main.write(0, start);
  await files.main.flush();
  const layout = parseSparse(start, start.length, files.name);
  const level = Number(options.config?.[CONFIG.level] ?? LEVELS[0]);
  const stream = new NewStream({ storage, layout, header, length: plan.virtualSize, level });
  const place = { storage, fileOffset: SECTOR, room: sectors * SECTOR };
  const store = DescriptorStore.of(place, descriptor);
  return new VmdkImage({
    storage,
    directory: files.directory,
    descriptor: store,
    guard: store.guard,
    lines: descriptor.extents.map((line) => parseExtent(line, files.name)),
    extents: [stream],
    parts: [],
    mode: 'write',
    stream,
  });
}

/** The geometry that the extent of a base has; null for a child. */
function geometryOf({ virtualSize }: VmdkPlan, { parent, geometry }: FormatCreateOptions): Geometry | null {
  return parent === undefined ? (geometry?.physical ?? derivePhysical(virtualSize)) : null;
}

/** Throws before the first byte is written if a fixed image cannot fit. */
async function checkSpace(files: NewFiles, { preallocates }: VmdkPlan): Promise<void> {
  if (preallocates === 0) return;
  const free = await files.freeSpace();
  if (free === null || free >= preallocates) return;
  throw new ImageError('no-space', 'There is not enough room for a fixed image', {
    path: files.name,
    found: `${free} bytes free`,
    expected: `${preallocates} bytes`,
    hint: 'Free some space, or create a dynamic image.',
  });
}

/** The descriptor of a new image. */
export function newDescriptor(
  plan: VmdkPlan,
  options: FormatCreateOptions,
  { name: path, directory }: NewFiles,
  own: string = path,
): DescriptorText {
  const { config = {}, parent } = options;
  const text = DescriptorText.parse(new TextEncoder().encode(TEMPLATE), path);
  const set = (key: string, value: string | null): void => text.set(key, value, path);
  set(KEYS.cid, randomContentId());
  set(KEYS.parentCid, parentCidFor(parent));
  set(KEYS.createType, plan.subformat);
  if (parent !== undefined) {
    set(KEYS.parentHint, storedName(directory, parent.name));
    set(KEYS.parentFormat, recordedFormat(parent));
  }
  text.setExtents(
    plan.extents.map((extent) => extentLine(extent, plan, own)),
    path,
  );
  set(KEYS.adapterType, String(config[CONFIG.adapterType] ?? (plan.subformat in ESX_TYPES ? 'lsilogic' : 'ide')));
  set(KEYS.hardwareVersion, String(config[CONFIG.hardwareVersion] ?? '4'));
  setGeometry(text, 'physical', options.geometry?.physical ?? derivePhysical(plan.virtualSize), path);
  setGeometry(text, 'logical', options.geometry?.logical ?? null, path);
  const uuids = {
    uuid: options.uuid === undefined ? randomGuid() : normalizeGuid(options.uuid),
    parentUuid: parent?.uuid ?? NULL_GUID,
    modificationUuid: randomGuid(),
    parentModificationUuid: parent?.modificationUuid ?? NULL_GUID,
  };
  setUuids(text, uuids, path);
  if (options.comment !== undefined && options.comment !== '') setComment(text, options.comment, path);
  return text;
}

function extentLine({ file, sectors }: PlannedExtent, { subformat, isFlat }: VmdkPlan, own: string): string {
  const type = ESX_TYPES[subformat] ?? (isFlat ? 'FLAT' : 'SPARSE');
  const access = subformat === 'streamOptimized' ? 'RDONLY' : 'RW';
  return formatExtent({ access, sectors, type, file: file ?? `${baseName(own)}.vmdk`, offset: 0, rest: [] });
}

function descriptorTooLong(found: number): ImageError {
  return new ImageError('limit', 'The descriptor of the new image has no room for its texts', {
    found: `${found} bytes`,
    expected: `at most ${(DESCRIPTOR_SECTORS - 1) * SECTOR}`,
    hint: 'Shorten the comment, or the name of the parent.',
  });
}

/** Order and comments as VMware writes them; keys are filled in. */
const TEMPLATE = `# Disk DescriptorFile
version=1
CID=00000000
parentCID=${NO_PARENT_CID}
createType="${Object.keys(SUBFORMATS)[0]}"

# Extent description
RW 1 ZERO

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
`;
