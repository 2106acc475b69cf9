/** Check and repair of a bundle that is not open elsewhere: its descriptor, and each of its files. */
import { SECTOR } from '../../../binary/numbers.ts';
import { isImageError, printable } from '../../../errors.ts';
import type { FormatCheckOptions } from '../../../image/contract.ts';
import type { ImageFiles } from '../../../image/files.ts';
import { FindingList } from '../../../image/finding-list.ts';
import type { Finding } from '../../../image/findings.ts';
import type { OpenMode, OperationOptions, Storage } from '../../../storage/contract.ts';
import { DESCRIPTOR } from '../layout.ts';
import { type BundleFile, type BundlePart, type Descriptor, nameInside } from './descriptor.ts';
import { openStored } from './open.ts';
import { DescriptorStore } from './store.ts';

/** Check and repair of one expandable file. */
export interface FileChecker {
  facts(
    storage: Storage,
    options: OperationOptions,
  ): Promise<{ readonly virtualSize: number; readonly clusterSize: number }>;
  check(storage: Storage, options: OperationOptions): Promise<readonly Finding[]>;
  repair(storage: Storage, options: OperationOptions & { readonly differencing: boolean }): Promise<readonly Finding[]>;
}

/** Finds damage in a bundle, and in write mode repairs its files. */
export async function checkBundle(
  files: ImageFiles,
  { signal }: FormatCheckOptions,
  mode: OpenMode,
  checker: FileChecker,
): Promise<readonly Finding[]> {
  const { descriptor } = await DescriptorStore.open(files, mode);
  const list = new FindingList();
  checkGeometry(descriptor, list);
  await checkStrays(files, descriptor, list);
  const found = [...list.list];
  for (const part of descriptor.parts) {
    for (const [id, file] of part.files) {
      const shot = descriptor.shots.get(id);
      if (shot === undefined) continue;
      const one: Wanted = { part, file, mode, differencing: shot.parent !== null };
      for (const finding of await checkFile(files, one, { signal }, checker)) found.push(finding);
    }
  }
  return found;
}

function checkGeometry({ geometry, size }: Descriptor, list: FindingList): void {
  if (geometry === null || geometry.cylinders * geometry.heads * geometry.sectors === size) return;
  const { cylinders, heads, sectors } = geometry;
  const message = `${DESCRIPTOR}: the geometry ${cylinders}/${heads}/${sectors} has ${cylinders * heads * sectors} sectors, and the disk ${size}.`;
  list.add('warning', 'geometry', message, { repairable: false });
}

/** A cut before the descriptor names a new file, or after it names a merged one no more, leaves it there. */
async function checkStrays(files: ImageFiles, { parts }: Descriptor, list: FindingList): Promise<void> {
  const named = new Set(parts.flatMap((part) => [...part.files.values()].map(({ file }) => nameInside(file))));
  const strays: string[] = [];
  for await (const name of files.list()) {
    const base = /[^/\\]*$/.exec(name)?.[0] ?? name;
    if (base.toLowerCase().endsWith('.hds') && !named.has(base)) strays.push(base);
  }
  for (const name of strays.sort()) {
    const message = `${printable(name)} belongs to no image of the bundle: an operation that was cut may have left it. Delete it if nothing needs it.`;
    list.add('warning', 'stray-file', message, { repairable: false });
  }
}

interface Wanted {
  readonly part: BundlePart;
  readonly file: BundleFile;
  readonly mode: OpenMode;
  readonly differencing: boolean;
}

async function checkFile(
  files: ImageFiles,
  { part, file, mode, differencing }: Wanted,
  options: OperationOptions,
  checker: FileChecker,
): Promise<readonly Finding[]> {
  const name = printable(nameInside(file.file));
  const of = (findings: readonly Finding[]): Finding[] =>
    findings.map((finding) => ({ ...finding, message: `${name}: ${finding.message}` }));
  try {
    const { storage } = await openStored(files, file.file, mode);
    const length = (part.end - part.start) * SECTOR;
    if (file.type === 'Plain') return storage.size >= length ? [] : of([tooShort(storage.size, length)]);
    const facts = await checker.facts(storage, options);
    if (facts.virtualSize < length) return of([tooShort(facts.virtualSize, length)]);
    if (facts.clusterSize !== part.blocksize * SECTOR) return of([otherClusters(facts.clusterSize, part.blocksize)]);
    return of(
      mode === 'write'
        ? await checker.repair(storage, { ...options, differencing })
        : await checker.check(storage, options),
    );
  } catch (error) {
    if (!isImageError(error) || !UNREADABLE.has(error.kind)) throw error;
    return of([broken('unreadable-file', `${error.message}.`)]);
  }
}

const UNREADABLE: ReadonlySet<string> = new Set(['corrupt', 'invalid-format', 'not-found', 'unsupported']);

function tooShort(found: number, expected: number): Finding {
  return broken('file-too-short', `It holds ${found} bytes of a disk, and the descriptor gives it ${expected}.`);
}

function otherClusters(found: number, blocksize: number): Finding {
  return broken('other-clusters', `Its clusters have ${found / SECTOR} sectors, and the descriptor says ${blocksize}.`);
}

function broken(code: string, message: string): Finding {
  return { severity: 'corruption', code, message, fileOffset: null, guestOffset: null, repairable: false };
}
