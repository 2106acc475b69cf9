/** The image, as each of the long operations and stores sees it. */
import { assert } from '../../errors.ts';
import type { AmendHost } from './amend/amend.ts';
import type { BitmapHost } from './bitmaps/bitmap-store.ts';
import { mapRange } from './clusters/mapping.ts';
import type { PackHost } from './clusters/pack.ts';
import { openRefcounts } from './clusters/refcount-store.ts';
import type { ResizeHost } from './clusters/resize.ts';
import type { HeaderWriter } from './header/header-writer.ts';
import type { SnapshotHost } from './snapshots/snapshot-store.ts';
import type { Qcow2State } from './state.ts';

/** For packing the file. */
export function packHost(state: Qcow2State): PackHost {
  const { storage, header, map, counts, flush } = state;
  return {
    header,
    map,
    tables: state.own().tables,
    counts,
    flush,
    cutFile: async (bytes) => {
      if (storage.size > bytes) await storage.resize(bytes);
    },
  };
}

/** For a change of the disk size. */
export function resizeHost(state: Qcow2State, headers: HeaderWriter): ResizeHost {
  const { storage, dataFile, counts, flush } = state;
  return {
    get header() {
      return state.header;
    },
    storage,
    dataFile,
    counts,
    map: (guestOffset, length) => mapRange(state, guestOffset, length),
    prepareWrite: (guestOffset, length) => state.own().prepare(guestOffset, length),
    unmap: (guestOffset, length, to) => state.own().unmap(guestOffset, length, to),
    hideTail: (bytes, all) => state.own().hideTail(bytes, all),
    flush,
    get dirtyBytes() {
      return state.dirtyBytes;
    },
    switchHeader: async (changes) => {
      await headers.change(changes);
      state.reload(state.snapshots);
    },
  };
}

/** For internal snapshots. */
export function snapshotHost(state: Qcow2State, headers: HeaderWriter): SnapshotHost {
  const { storage, counts, flush, guard } = state;
  return {
    storage,
    counts,
    get header() {
      return state.header;
    },
    get snapshots() {
      return state.snapshots;
    },
    get hasBitmaps() {
      return state.header.bitmaps !== null;
    },
    flush,
    changeHeader: (changes) => headers.change(changes),
    reload: (snapshots) => state.reload(snapshots),
    fail: () => guard.fail(),
  };
}

/** For persistent bitmaps. */
export function bitmapHost(state: Qcow2State, headers: HeaderWriter): BitmapHost {
  const { storage, counts, flush, guard } = state;
  return {
    storage,
    counts,
    get header() {
      return state.header;
    },
    get bitmaps() {
      return state.bitmaps;
    },
    flush,
    checkDirectory: (directory) => headers.checkDirectory(directory),
    changeDirectory: (directory) => headers.changeDirectory(directory),
    changed: (bitmaps) => {
      state.bitmaps = bitmaps;
    },
    fail: () => guard.fail(),
  };
}

/** For changes of the options of an image. */
export function amendHost(state: Qcow2State, headers: HeaderWriter): AmendHost {
  const { storage, flush } = state;
  return {
    storage,
    get counts() {
      return state.counts;
    },
    get header() {
      return state.header;
    },
    get snapshots() {
      return state.snapshots;
    },
    flush,
    checkHeader: async (header) => void (await headers.steps(header)),
    switchHeader: (header) => headers.switchTo(header),
    changeHeader: (changes) => headers.change(changes),
    switchRefcounts: async (fields) => {
      await headers.change(fields);
      const counts = await openRefcounts(storage, state.header);
      assert(typeof counts !== 'string', 'counts that were just written are sound');
      state.replaceCounts(counts);
    },
  };
}
