/** seSparse extents for the suites, built by hand in the form that QEMU reads: vdkit writes none. */
import {
  SESPARSE,
  SESPARSE_HEADER,
  SESPARSE_VERSION,
  SESPARSE_VOLATILE,
  SESPARSE_VOLATILE_HEADER,
} from '../../../src/formats/vmdk/layout.ts';

const SECTOR = 512;
export const GRAIN = 4096;
const TABLE_SECTORS = 64;
const TABLE = TABLE_SECTORS * SECTOR;
const ENTRIES = TABLE / 8;

/** Places in the file, in sectors: areas of which readers need little are one sector long. */
export const AT = { volatile: 1, journalHeader: 2, journal: 4, directory: 5, tables: 8, grains: 1024 } as const;
/** Room for grain tables, and for grains. */
const TABLES = 8;
const GRAINS = 4096;

/** State of a grain: its bytes, zero, unmapped, or an entry as it is. Those left out are not allocated. */
export type GrainState = Uint8Array | 'zero' | 'unmapped' | bigint;

const TYPES = { unmapped: 0x1000_0000_0000_0000n, zero: 0x2000_0000_0000_0000n, stored: 0x3000_0000_0000_0000n };

/** The entry of a stored grain, by its number in the area for grains. */
export function storedEntry(grain: number): bigint {
  const number = BigInt(grain);
  return TYPES.stored | ((number & 0xfffn) << 48n) | (number >> 12n);
}

/** An extent. Grains are stored backwards from number `last`, tables in the order of the disk. */
export function buildSeSparse(
  sectors: number,
  grains: ReadonlyMap<number, GrainState>,
  last = grains.size,
): Uint8Array {
  const used = [...grains].filter(([, state]) => state instanceof Uint8Array);
  const highest = used.length === 0 ? 0 : last + 1;
  const bytes = new Uint8Array((AT.grains + highest * 8) * SECTOR);
  bytes.set(header(sectors));
  const volatile = SESPARSE_VOLATILE_HEADER.decode(new Uint8Array(SESPARSE_VOLATILE_HEADER.size));
  bytes.set(SESPARSE_VOLATILE_HEADER.encode({ ...volatile, magic: BigInt(SESPARSE_VOLATILE) }), AT.volatile * SECTOR);
  const view = new DataView(bytes.buffer);
  const tables = [...new Set([...grains.keys()].map((grain) => Math.floor(grain / ENTRIES)))].sort((a, b) => a - b);
  for (const [index, table] of tables.entries()) {
    view.setBigUint64(AT.directory * SECTOR + table * 8, 0x1000_0000_0000_0000n | BigInt(index), true);
  }
  let next = last;
  for (const [grain, state] of grains) {
    const index = tables.indexOf(Math.floor(grain / ENTRIES));
    const place = AT.tables * SECTOR + index * TABLE + (grain % ENTRIES) * 8;
    if (typeof state === 'bigint') view.setBigUint64(place, state, true);
    else if (typeof state === 'string') view.setBigUint64(place, TYPES[state], true);
    else {
      bytes.set(state, AT.grains * SECTOR + next * GRAIN);
      view.setBigUint64(place, storedEntry(next--), true);
    }
  }
  return bytes;
}

function header(sectors: number): Uint8Array {
  const empty = SESPARSE_HEADER.decode(new Uint8Array(SESPARSE_HEADER.size));
  return SESPARSE_HEADER.encode({
    ...empty,
    magic: BigInt(SESPARSE),
    version: SESPARSE_VERSION,
    capacity: sectors,
    grainSize: GRAIN / SECTOR,
    tableSize: TABLE_SECTORS,
    volatileOffset: AT.volatile,
    volatileSize: 1,
    journalHeaderOffset: AT.journalHeader,
    journalHeaderSize: 2,
    journalOffset: AT.journal,
    journalSize: 1,
    directoryOffset: AT.directory,
    directorySize: 1,
    tablesOffset: AT.tables,
    tablesSize: TABLES * TABLE_SECTORS,
    freeBitmapOffset: AT.directory + 1,
    freeBitmapSize: 1,
    backmapOffset: AT.directory + 2,
    backmapSize: 1,
    grainsOffset: AT.grains,
    grainsSize: GRAINS * 8,
  });
}

/** The descriptor of an image with one extent of ESX. */
export function esxDescriptor(
  createType: string,
  line: string,
  parent?: { readonly name: string; readonly cid: string },
) {
  const hint = parent === undefined ? '' : `parentFileNameHint="${parent.name}"\n`;
  return new TextEncoder().encode(
    `# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=${parent?.cid ?? 'ffffffff'}\ncreateType="${createType}"\n${hint}
# Extent description
${line}

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
`,
  );
}
