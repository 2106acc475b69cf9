import { describe, expect, it } from 'vitest';
import { MemoryStorage } from '../storage/memory.ts';
import { Random } from '../testing/random.ts';
import { MetadataPages } from './metadata-pages.ts';
import { EntryTable, U32_BIG } from './table.ts';
import { KIND, type Kind, TwoLevelMap } from './two-level-map.ts';

const CLUSTER = 512;
/** Entries of a table, which takes two pages of a sector. */
const ENTRIES = 256;
const TABLES = 6;
const SIZE = TABLES * ENTRIES * CLUSTER;
const ZERO = 1;

/** Entries: sectors of the file; 0 absent, 1 zero, odd ones broken. */
class ToyMap extends TwoLevelMap {
  readonly #storage: MemoryStorage;

  constructor(storage: MemoryStorage, { directoryEntries = TABLES, fileEnd = 0 } = {}) {
    super({
      storage,
      directory: new EntryTable({ storage, fileOffset: 0, count: directoryEntries, form: U32_BIG }),
      directoryEntries,
      directoryOffset: 0,
      tables: new MetadataPages({ storage, fileOffset: 0, length: 1e9, pageBytes: 512 }),
      tableAlignment: 512,
      clusterSize: CLUSTER,
      entryBytes: 4,
      tableEntries: ENTRIES,
      fileEnd,
      names: { directory: 'directory', table: 'inner' },
    });
    this.#storage = storage;
  }

  protected override decode(view: DataView, at: number, cluster: number, guestOffset: number): true {
    const entry = view.getUint32(at);
    const until = (cluster + 1) * CLUSTER;
    if (entry === 0) return this.found(KIND.absent, until);
    if (entry === ZERO) return this.found(KIND.zero, until);
    if (entry % 2 !== 0) return this.broken('An entry is odd', until);
    const fileOffset = entry * 512;
    if (fileOffset >= this.#storage.size) return this.cutOff('A cluster', fileOffset, this.#storage.size, until);
    this.position = fileOffset + (guestOffset - cluster * CLUSTER);
    return this.found(KIND.data, until);
  }

  put(guestOffset: number, entry: number): void {
    const page = this.pageOf(guestOffset);
    if (page === undefined) throw new Error('the page is in memory');
    const at = this.entryAt(guestOffset);
    page.view.setUint32(at, entry);
    this.touch(page, at);
  }

  async flush(storage: MemoryStorage): Promise<void> {
    for (const write of [...this.tables.seal(), ...this.sealDirectory()]) {
      await storage.write(write.fileOffset, write.bytes);
    }
    this.tables.settle();
    this.settleDirectory();
  }
}

/** File offset of a table. */
function tableAt(index: number): number {
  return 1024 + index * ENTRIES * 4;
}

async function made(tables: readonly number[], size = 1 << 20): Promise<MemoryStorage> {
  const storage = new MemoryStorage('/toy');
  const view = new DataView(new ArrayBuffer(512));
  for (const index of tables) view.setUint32(index * 4, tableAt(index));
  await storage.write(0, new Uint8Array(view.buffer));
  await storage.resize(size);
  return storage;
}

async function look(map: TwoLevelMap, guestOffset: number): Promise<Kind> {
  while (!map.look(guestOffset)) await map.load(guestOffset);
  return map.kind;
}

describe('TwoLevelMap', () => {
  it('agrees with an array of entries, and so do its runs', async () => {
    const random = new Random(11);
    for (let round = 0; round < 5; round++) {
      const tables = Array.from({ length: TABLES }, (_, n) => n).filter(() => random.below(3) !== 0);
      const storage = await made(tables);
      const map = new ToyMap(storage);
      const model = new Map<number, number>();
      for (let step = 0; step < 60; step++) {
        const first = random.below(SIZE / CLUSTER);
        if (!tables.includes(Math.floor(first / ENTRIES))) continue;
        const count = Math.min(1 + random.below(40), ENTRIES - (first % ENTRIES));
        const entry = [0, ZERO, 2 * (100 + random.below(900))][random.below(3)] ?? 0;
        for (let n = 0; n < count; n++) {
          await look(map, (first + n) * CLUSTER);
          const value = entry > ZERO ? entry + n * 2 : entry;
          map.put((first + n) * CLUSTER, value);
          model.set(first + n, value);
        }
        if (random.below(4) === 0) await map.flush(storage);
      }
      await map.flush(storage);
      for (const seen of [map, new ToyMap(storage)]) await compare(seen, model);
    }
  });

  async function compare(map: ToyMap, model: ReadonlyMap<number, number>): Promise<void> {
    for (let at = 0; at < SIZE; ) {
      const entry = model.get(at / CLUSTER) ?? 0;
      const wanted = entry > ZERO ? KIND.data : entry === ZERO ? KIND.zero : KIND.absent;
      expect(await look(map, at)).toBe(wanted);
      if (wanted === KIND.data) expect(map.position).toBe(entry * 512);
      const end = map.runEnd(at, SIZE);
      expect(end).toBeGreaterThan(at);
      for (let next = at + CLUSTER; next < end; next += CLUSTER) {
        const other = model.get(next / CLUSTER) ?? 0;
        // Neighbours in the file are two sectors apart here, so data never joins.
        expect(wanted).not.toBe(KIND.data);
        expect(other).toBe(entry);
      }
      at = end;
    }
  }

  it('joins clusters that are neighbours in the file, as long as the caller lets it', async () => {
    class Wide extends ToyMap {
      protected override decode(view: DataView, at: number, cluster: number, guestOffset: number): true {
        const entry = view.getUint32(at);
        this.position = entry * 512 + (guestOffset - cluster * CLUSTER);
        return this.found(entry === 0 ? KIND.absent : KIND.data, (cluster + 1) * CLUSTER);
      }
    }
    const storage = await made([0]);
    const map = new Wide(storage);
    for (let n = 0; n < 10; n++) {
      await look(map, n * CLUSTER);
      map.put(n * CLUSTER, n < 8 ? 100 + n : 500);
    }
    expect(await look(map, 2 * CLUSTER + 100)).toBe(KIND.data);
    expect(map.runEnd(2 * CLUSTER + 100, SIZE)).toBe(8 * CLUSTER);
    await look(map, 2 * CLUSTER);
    expect(map.runEnd(2 * CLUSTER, 5 * CLUSTER - 12)).toBe(5 * CLUSTER - 12);
    await look(map, 0);
    expect(map.runEnd(0, SIZE, () => map.position < 104 * 512)).toBe(4 * CLUSTER);
  });

  it('takes what lies behind the directory as absent', async () => {
    const map = new ToyMap(await made([0]), { directoryEntries: 1 });
    expect(await look(map, ENTRIES * CLUSTER)).toBe(KIND.absent);
    expect(map.until).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('answers wrong entries with an error for the clusters they answer for, and no others', async () => {
    const storage = await made([0]);
    const map = new ToyMap(storage);
    await look(map, 0);
    map.put(0, 3);
    map.put(CLUSTER, 2 * 1_000_000);
    map.put(2 * CLUSTER, 2 * 100);
    expect(await look(map, 0)).toBe(KIND.broken);
    expect(map.problem(0)).toMatchObject({ kind: 'corrupt', message: 'An entry is odd' });
    expect(await look(map, CLUSTER)).toBe(KIND.broken);
    expect(map.problem(CLUSTER)).toMatchObject({ kind: 'corrupt', status: 'VERR_VD_READ_OUT_OF_RANGE' });
    expect(await look(map, 2 * CLUSTER)).toBe(KIND.data);
  });

  it.each([
    ['between two places of tables', 1025],
    ['behind the end of the file', 1 << 25],
  ])('answers a directory entry that points %s', async (_what, table) => {
    const storage = await made([0]);
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, table);
    await storage.write(4, new Uint8Array(view.buffer));
    const map = new ToyMap(storage);
    expect(await look(map, ENTRIES * CLUSTER)).toBe(KIND.broken);
    expect(map.until).toBe(2 * ENTRIES * CLUSTER);
    expect(map.problem(0).message).toContain('where no inner table can be');
    expect(await look(map, 0)).toBe(KIND.absent);
  });

  it('answers for the part of a table that a file that was cut off still has', async () => {
    const fileEnd = tableAt(0) + 40;
    const storage = await made([0], fileEnd);
    const map = new ToyMap(storage, { fileEnd });
    expect(await look(map, 9 * CLUSTER)).toBe(KIND.absent);
    expect(await look(map, 10 * CLUSTER)).toBe(KIND.broken);
    expect(map.problem(0).message).toContain('ends inside an inner table');
  });

  it('leads to a new table before the file has it', async () => {
    const storage = await made([]);
    const map = new ToyMap(storage);
    expect(await look(map, 0)).toBe(KIND.absent);
    map.setTable(0, tableAt(0));
    expect(map.tableOf(0)).toBe(tableAt(0));
    expect(await look(map, 0)).toBe(KIND.absent);
    expect(map.page).not.toBeNull();
    expect(map.dirtyBytes).toBe(512);
    await map.flush(storage);
    expect(new ToyMap(storage).look(0)).toBe(false);
  });
});
