/**
 * Changing options of an image that exists. Everything that could refuse is asked before the first write.
 *
 * - To version 3: entries of snapshots get the extra data that it wants, in a new table; then the header.
 * - The width of refcounts: see refcount-width.ts.
 * - To version 2: zero marks are taken out of all tables, see zero-expansion.ts; then the header.
 *
 * The header changes in its first sector, see header-switch.ts. A cut leaves the image before or after each of these; what
 * is read is the same all the time, but for a backing file that was exchanged. Nothing else may run meanwhile.
 */
import { hex, ImageError } from '../../../errors.ts';
import type { AmendOptions } from '../../../image/contract.ts';
import type { OperationOptions } from '../../../storage/contract.ts';
import { Turns } from '../../../storage/turns.ts';
import { lowerTable, takeRooms, writeTable } from '../clusters/table-room.ts';
import { l2EntryBytes, l2Tables, readL1 } from '../clusters/tree.ts';
import { CONFIG } from '../create.ts';
import type { Qcow2Header } from '../header/header.ts';
import { COMPRESSED_HIGH, INCOMPATIBLE, SNAPSHOT_EXTRA, SNAPSHOT_EXTRA_3, VERSION_2, ZERO_LOW } from '../layout.ts';
import { type Snapshot, serializeSnapshots, snapshotTableBytes } from '../snapshots/snapshots.ts';
import { type AmendValues, planAmend } from './amend-plan.ts';
import { changeWidth, checkWidth, type WidthHost } from './refcount-width.ts';
import { expandZeroes } from './zero-expansion.ts';

/** The image, as this sees it. */
export interface AmendHost extends WidthHost {
  readonly snapshots: readonly Snapshot[];
  /** Throws when there is no safe way to that header. */
  checkHeader(header: Qcow2Header): Promise<void>;
  /** Another header with other extensions or names, durably. */
  switchHeader(header: Qcow2Header): Promise<void>;
  /** Fields of the first sector, durably. */
  changeHeader(changes: Pick<Qcow2Header, 'snapshotCount' | 'snapshotsOffset'>): Promise<void>;
}

/** Refuses what cannot be, touching nothing, and returns what makes the changes; null: all is as it shall be. */
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

/** Compressed clusters say nothing of how they were compressed; and what version 2 ignores may mean something in 3. */
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
        throw new ImageError('corrupt', 'An entry has a bit that version 2 does not know, and that means zero in 3', {
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

/** Version 3 wants every snapshot to say how large its disk was. */
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
