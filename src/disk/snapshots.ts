/** Internal snapshots of the last image of a chain: the disk is settled, the image does the work, alone. */
import { ImageError } from '../errors.ts';
import type { SnapshotInfo, SnapshotStore } from '../image/contract.ts';
import type { DiskHost } from './host.ts';

/** How a snapshot is made. */
export interface CreateSnapshotOptions {
  /** Its time, milliseconds since 1970. Default: now. */
  readonly createdMs?: number;
}

/** The snapshots of the last image. Throws `unsupported` where its format has none. */
export function snapshotsOf(host: DiskHost): readonly SnapshotInfo[] {
  const { image } = host.head.last;
  const { snapshots } = image.info;
  if (snapshots === undefined) throw noneIn(host);
  return snapshots;
}

/** Keeps the disk as it is. */
export function createSnapshotOf(
  host: DiskHost,
  name: string,
  { createdMs = Date.now() }: CreateSnapshotOptions,
): Promise<SnapshotInfo> {
  return change(host, (store) => store.create(name, { createdMs }));
}

/** The disk becomes what it was, its size too. */
export async function applySnapshotOf(host: DiskHost, idOrName: string): Promise<void> {
  storeOf(host);
  await host.changing(async () => {
    await host.settle();
    await storeOf(host).apply(idOrName);
    host.head.chain.resized();
  });
}

/** Gives a snapshot up. */
export function deleteSnapshotOf(host: DiskHost, idOrName: string): Promise<void> {
  return change(host, (store) => store.delete(idOrName));
}

/** Gives a snapshot another name. */
export function renameSnapshotOf(host: DiskHost, idOrName: string, name: string): Promise<void> {
  return change(host, (store) => store.rename(idOrName, name));
}

/** What is read stays as it is. */
async function change<T>(host: DiskHost, run: (store: SnapshotStore) => Promise<T>): Promise<T> {
  storeOf(host);
  return host.alone(async () => {
    await host.settle();
    await host.head.beginMoving();
    return run(storeOf(host));
  });
}

function storeOf(host: DiskHost): SnapshotStore {
  snapshotsOf(host);
  const { image, name } = host.head.last;
  if (image.snapshots !== undefined) return image.snapshots;
  throw new ImageError('read-only', 'The image is open for reading only', { path: name });
}

function noneIn(host: DiskHost): ImageError {
  const { name, format } = host.head.last;
  return new ImageError('unsupported', `Images of format ${format} have no snapshots inside`, {
    path: name,
    hint: 'Make a differencing image over it (createDiff; on the command line: create --parent).',
  });
}
