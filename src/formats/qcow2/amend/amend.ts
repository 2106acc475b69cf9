/**
 * Amending an existing image. Everything that could fail is checked before the first write.
 *
 * - To version 3: snapshot entries get the extra data that version 3 requires, in a new table; then the header.
 * - The width of refcounts: new blocks and table, switched in the header.
 * - To version 2: zero flags are removed from all tables; then the header.
 *
 * The header changes in its first sector. A cut leaves the image before or after each of these steps, and it reads the
 * same throughout, except when the backing file was changed. Nothing else may run at the same time.
 */
import { hex, ImageError } from '../../../errors.ts';
import type { AmendOptions } from '../../../image/contract.ts';
import type { OperationOptions } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import { lowerTable, takeRooms, writeTable } from '../clusters/table-room.ts';
import { l2EntryBytes, l2Tables, readL1 } from '../clusters/tree.ts';
import { CONFIG } from '../config.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, INCOMPATIBLE, SNAPSHOT_EXTRA, SNAPSHOT_EXTRA_3, VERSION_2, ZERO_LOW } from '../layout.ts';
import { type Snapshot, serializeSnapshots, snapshotTableBytes } from '../snapshots/snapshots.ts';
import { type AmendValues, planAmend } from './amend-plan.ts';
import { changeWidth, checkWidth, type WidthHost } from './refcount-width.ts';
import { expandZeroes } from './zero-expansion.ts';

/** The image, as the amendment sees it. */
export interface AmendHost extends WidthHost {
  readonly snapshots: readonly Snapshot[];
  /** Throws if the header cannot be switched safely. */
  checkHeader(header: Qcow2Header): Promise<void>;
  /** Switches to a header with other extensions or names, durably. */
  switchHeader(header: Qcow2Header): Promise<void>;
  /** Changes fields of the first sector, durably. */
  changeHeader(changes: Pick<Qcow2Header, 'snapshotCount' | 'snapshotsOffset'>): Promise<void>;
}

/**
 * Rejects impossible changes without touching anything, and returns a function that makes the changes; null: nothing to
 * change.
 */
export async function prepareAmend(
  host: AmendHost,
  values: AmendValues,
  { signal }: OperationOptions,
): Promise<((how: AmendOptions) => Promise<void>) | null> {
  const { header, snapshots, storage } = host;
  const path = storage.label;
  const plan = planAmend({ header, snapshots, path }, values);
  const upgrades = plan.version > header.version;
  const downgrades = plan.version < header.version;
  const widens = plan.refcountOrder !== header.refcountOrder;
  if (snapshots.length !== header.snapshotCount && (upgrades || downgrades || plan.otherCompression)) {
    throw new ImageError('corrupt', 'The list of snapshots cannot be read, so the image cannot be changed', {
      path,
      hint: 'Check and repair the image.',
    });
  }
  if (plan.changesHeader) await host.checkHeader(plan.header(header));
  const turns = new Turns(signal, 'The change');
  if (upgrades || plan.otherCompression) {
    await checkEntries(host, { upgrades, compression: plan.otherCompression }, turns);
  }
  if (widens) await checkWidth(host, plan.refcountOrder, turns);
  if (!plan.changesHeader && !widens) return null;
  return async (how) => {
    if (upgrades) await completeSnapshots(host);
    if (plan.changesHeader && !downgrades) await host.switchHeader(plan.header(host.header));
    if (widens) await changeWidth(host, plan.refcountOrder, how);
    if (!downgrades) return;
    const shown = header.backingName !== null || plan.header(header).backingName !== null;
    await expandZeroes(host, shown, how);
    await host.switchHeader(plan.header(host.header));
  };
}

/** Compressed clusters do not record their method; and bits ignored by version 2 may have a meaning in version 3. */
async function checkEntries(
  host: AmendHost,
  refused: { readonly upgrades: boolean; readonly compression: boolean },
  turns: Turns,
): Promise<void> {
  const { header, snapshots, storage } = host;
  if ((header.incompatible & INCOMPATIBLE.dataFile) !== 0n) return;
  for (const place of [header, ...snapshots]) {
    for await (const { offset, view } of l2Tables(host, await readL1(host, place), turns)) {
      for (let at = 0; at < view.byteLength; at += l2EntryBytes(header)) {
        const compressed = (view.getUint32(at) & COMPRESSED_HIGH) !== 0;
        if (compressed && refused.compression) throw hasCompressed(header, storage.label, offset + at);
        if (!refused.upgrades || compressed || (view.getUint32(at + 4) & ZERO_LOW) === 0) continue;
        throw new ImageError('corrupt', 'An entry has a zero flag, which version 2 does not define', {
          path: storage.label,
          offset: offset + at,
          found: hex(view.getBigUint64(at)),
          hint: 'Check the image, or convert it.',
        });
      }
    }
  }
}

function hasCompressed(header: Qcow2Header, path: string, offset: number): ImageError {
  return new ImageError('unsupported', 'The compression of an image that has compressed clusters cannot be changed', {
    path,
    offset,
    field: CONFIG.compressionType,
    found: header.compression,
    expected: header.compression === 'zlib' ? 'zstd' : 'zlib',
    hint: 'Convert the image to a new one.',
  });
}

/** Version 3 requires the disk size in every snapshot. */
async function completeSnapshots(host: AmendHost): Promise<void> {
  const { header, snapshots } = host;
  if (header.version !== VERSION_2 || snapshots.every(({ extra }) => extra.length >= SNAPSHOT_EXTRA_3)) return;
  const complete = snapshots.map((snapshot) => {
    if (snapshot.extra.length >= SNAPSHOT_EXTRA_3) return snapshot;
    const { vmStateSize, diskSize } = snapshot;
    const known = SNAPSHOT_EXTRA.encode({ vmStateSize, diskSize, icount: 0n });
    return { ...snapshot, extra: known.slice(0, SNAPSHOT_EXTRA_3) };
  });
  const [room] = await takeRooms(host, [snapshotTableBytes(complete)]);
  await writeTable(host, room, serializeSnapshots(complete));
  await host.flush();
  await host.changeHeader({ snapshotCount: complete.length, snapshotsOffset: room?.offset ?? 0 });
  await lowerTable(host, header.snapshotsOffset, snapshotTableBytes(snapshots));
  await host.flush();
}
