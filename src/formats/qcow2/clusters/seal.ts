/** Everything that one flush writes. */
import type { SealedMetadata } from '../../../image/contract.ts';
import { HEADER } from '../layout.ts';
import type { Qcow2State } from '../state.ts';

/** See `Image.seal`. New tables and raised counts come first, then the refcount table, then what leads to new tables. */
export function sealTables(state: Qcow2State): SealedMetadata {
  const { tables: l2 } = state.own();
  const { counts, sector, map, storage } = state;
  const sealed = counts.seal();
  const tables = l2.seal();
  const links = [...tables.others, ...map.sealDirectory()];
  const root = [...sealed.root];
  if (sealed.moved !== null) {
    const { offset: refcountTableOffset, clusters: refcountTableClusters } = sealed.moved;
    HEADER.put(sector, 'refcountTableOffset', refcountTableOffset);
    HEADER.put(sector, 'refcountTableClusters', refcountTableClusters);
    state.header = { ...state.header, refcountTableOffset, refcountTableClusters };
    root.push({ storage, fileOffset: 0, bytes: sector.slice() });
  }
  return {
    stage: [...sealed.stage, ...tables.fresh],
    root: root.length === 0 ? [] : [root],
    publish: links.length === 0 ? [] : [links],
  };
}
