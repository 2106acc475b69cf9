/**
 * An example of a plugin: a format, `boxes`, and a filter, `invert`.
 *
 * A file of boxes: one sector with the text "BOXES 1\n" and the bytes of the disk (64 bits), then a map with a 32-bit
 * number for each 64 KiB of the disk: 0 for a box that was never filled, n for the n-th box behind the map. All numbers are
 * little-endian.
 */
const SECTOR = 512;
const BOX = 64 * 1024;
const MAGIC = new TextEncoder().encode('BOXES 1\n');
/** Entries of the map in one sector: the unit in which it is written. */
const ENTRIES = SECTOR / 4;

/** @param {import('vdkit').PluginRegister} register */
export function VDPluginLoad({ ImageError, PlainImage, plainInfo, registerFormat, registerFilter }) {
  const tools = { ImageError, Boxes: boxesOf(PlainImage, plainInfo) };
  registerFormat({
    name: 'boxes',
    title: 'Boxes of 64 KiB',
    can: { write: true },
    extensions: [{ extension: 'boxes', type: 'hdd' }],
    probe: ({ head }) =>
      MAGIC.every((byte, index) => head[index] === byte)
        ? { match: 'yes', reason: 'it begins with "BOXES 1"', type: 'hdd' }
        : { match: 'no', reason: 'it does not begin with "BOXES 1"' },
    open: ({ main }, { mode }) => openBoxes(main, mode, tools),
    async create({ main }, { size, variant, comment, uuid, parent }) {
      if (!Number.isSafeInteger(size) || size < SECTOR || size % SECTOR !== 0 || size > 2 ** 40) {
        throw new ImageError('invalid-argument', 'The disk size is not valid', { found: size });
      }
      if (variant.length > 0 || comment !== undefined || uuid !== undefined || parent !== undefined) {
        throw new ImageError('unsupported', 'Boxes hold the disk and nothing else');
      }
      const start = new Uint8Array(dataStart(size));
      start.set(MAGIC);
      new DataView(start.buffer).setBigUint64(8, BigInt(size), true);
      await main.write(0, start);
      await main.flush();
      return openBoxes(main, 'write', tools);
    },
  });

  const invert = (_offset, bytes) => bytes.map((byte) => byte ^ 0xff);
  registerFilter({
    name: 'invert',
    title: 'Turns every bit over',
    configKeys: [],
    open: () => ({ encode: invert, decode: invert, close() {} }),
  });
}

const dataStart = (size) => SECTOR + Math.ceil(Math.ceil(size / BOX) / ENTRIES) * SECTOR;

/** Nothing in the file is trusted before it is checked. */
async function openBoxes(storage, mode, { ImageError, Boxes }) {
  const refuse = (message, details) => new ImageError('invalid-format', message, { path: storage.label, ...details });
  const header = new Uint8Array(SECTOR);
  if (storage.size < SECTOR) throw refuse('The file is too short', { found: storage.size });
  await storage.read(0, header);
  if (!MAGIC.every((byte, index) => header[index] === byte)) throw refuse('These are no boxes', { field: 'magic' });
  const size = Number(new DataView(header.buffer).getBigUint64(8, true));
  if (size < SECTOR || size % SECTOR !== 0 || size > 2 ** 40) throw refuse('The size is not usable', { found: size });
  const start = dataStart(size);
  if (storage.size < start) throw refuse('The map is cut off', { field: 'map', found: storage.size, expected: start });
  const map = new DataView(new ArrayBuffer(start - SECTOR));
  await storage.read(SECTOR, new Uint8Array(map.buffer));
  const boxes = Math.ceil(size / BOX);
  const seen = new Set();
  let used = 0;
  for (let box = 0; box < boxes; box++) {
    const place = map.getUint32(box * 4, true);
    if (place === 0) continue;
    const field = `map[${box}]`;
    if (start + place * BOX > storage.size) throw refuse('A box lies behind the end', { field, found: place });
    if (seen.has(place)) throw refuse('A box is used twice', { field, found: place });
    seen.add(place);
    used = Math.max(used, place);
  }
  return new Boxes(storage, mode, { size, map, used });
}

const boxesOf = (PlainImage, plainInfo) =>
  class Boxes extends PlainImage {
    constructor(storage, mode, { size, map, used }) {
      super(storage, mode);
      this.size = size;
      this.entries = map;
      this.start = dataStart(size);
      this.used = used;
      this.dirty = new Set();
    }

    get info() {
      return plainInfo({ format: 'boxes', virtualSize: this.size, blockSize: BOX });
    }

    place(box) {
      return this.entries.getUint32(box * 4, true);
    }

    /** Where a run lives. A map in memory needs no I/O. */
    map(guestOffset, length) {
      const within = guestOffset % BOX;
      const place = this.place((guestOffset - within) / BOX);
      const inside = Math.min(length, BOX - within);
      if (place === 0) return { kind: 'absent', length: inside };
      const { storage, writable } = this;
      return { kind: 'data', storage, fileOffset: this.start + (place - 1) * BOX + within, length: inside, writable };
    }

    /**
     * Room for a box: behind the last one in use. What a cut left there may be anything, so that it does not read zero: the
     * disk writes all of it, then commits.
     */
    prepareWrite(guestOffset) {
      if (!this.writable) throw new Error('an earlier flush failed');
      const box = Math.floor(guestOffset / BOX);
      const place = ++this.used;
      const where = { storage: this.storage, fileOffset: this.start + (place - 1) * BOX, length: BOX };
      return {
        ...where,
        guestOffset: box * BOX,
        readsZero: false,
        commit: () => {
          this.entries.setUint32(box * 4, place, true);
          this.dirty.add(Math.floor(box / ENTRIES));
        },
        abort: () => {
          if (this.used === place) this.used--;
        },
      };
    }

    get dirtyBytes() {
      return this.dirty.size * SECTOR;
    }

    /** Copies of the map's sectors that changed: written when the boxes that they point at are durable. */
    seal() {
      const writes = [...this.dirty].map((sector) => {
        const bytes = new Uint8Array(this.entries.buffer, sector * SECTOR, SECTOR).slice();
        return { storage: this.storage, fileOffset: SECTOR * (1 + sector), bytes };
      });
      this.dirty.clear();
      return { stage: [], root: [], publish: writes.length === 0 ? [] : [writes] };
    }

    async *metadata() {
      yield { storage: this.storage, fileOffset: 0, length: SECTOR, what: 'header', guestOffset: null };
      yield { storage: this.storage, fileOffset: SECTOR, length: this.start - SECTOR, what: 'map', guestOffset: null };
    }
  };
