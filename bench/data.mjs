/** Files to measure with. The same bytes in every run: all randomness comes from a seed. */
import { createCipheriv, createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';

const MIB = 1024 * 1024;
const REGION = 8 * MIB;
const WORDS = 'disk image block sector header map parent child write read flush zero data hole cluster table'.split(
  ' ',
);

/** Kinds of regions and how often they come: what a used disk is made of. */
const KINDS = ['random', 'random', 'random', 'text', 'text', 'zero', 'zero', 'hole', 'hole', 'hole'];

/**
 * A raw disk of random bytes, text, stored zeroes and holes in 8 MiB regions.
 * @param {string} path
 * @param {number} size
 */
export function makeRawDisk(path, size) {
  const random = seeded('raw disk');
  const text = makeText(random, REGION);
  const zeroes = Buffer.alloc(REGION);
  const file = openSync(path, 'w');
  ftruncateSync(file, size);
  for (let at = 0; at < size; at += REGION) {
    const kind = KINDS[random.below(KINDS.length)];
    const bytes = { random: () => random.bytes(REGION), text: () => text, zero: () => zeroes, hole: () => null }[
      kind
    ]();
    if (bytes !== null) writeSync(file, bytes, 0, Math.min(REGION, size - at), at);
  }
  closeSync(file);
}

/**
 * A dynamic VDI of which a tenth is stored, the blocks in random order; no block holds any byte, the file is one hole.
 * @param {string} path
 * @param {number} size Guest bytes, a multiple of 1 MiB.
 */
export function makeScatteredVdi(path, size) {
  const random = seeded('scattered VDI');
  const blockCount = size / MIB;
  const stored = Math.floor(blockCount / 10);
  const map = new Uint32Array(blockCount).fill(0xffff_ffff);
  for (let slot = 0; slot < stored; ) {
    const block = random.below(blockCount);
    if (map[block] === 0xffff_ffff) map[block] = slot++;
  }
  const { file, dataOffset } = beginVdi(path, map, stored, random);
  ftruncateSync(file, dataOffset + stored * MIB);
  closeSync(file);
}

/**
 * A dynamic VDI whose blocks are all stored, in order; every second one holds only zeroes, the others random bytes.
 * @param {string} path
 * @param {number} size Guest bytes, a multiple of 1 MiB.
 */
export function makeHalfZeroVdi(path, size) {
  const random = seeded('half-zero VDI');
  const blockCount = size / MIB;
  const map = Uint32Array.from({ length: blockCount }, (_, block) => block);
  const { file, dataOffset } = beginVdi(path, map, blockCount, random);
  const zeroes = Buffer.alloc(MIB);
  for (let block = 0; block < blockCount; block++) {
    writeSync(file, block % 2 === 0 ? random.bytes(MIB) : zeroes, 0, MIB, dataOffset + block * MIB);
  }
  closeSync(file);
}

/** Header and map of a dynamic VDI with 1 MiB blocks. */
function beginVdi(path, map, stored, random) {
  const dataOffset = MIB + Math.ceil((map.length * 4) / MIB) * MIB;
  const header = Buffer.alloc(512);
  header.write('<<< Oracle VM VirtualBox Disk Image >>>\n', 'latin1');
  header.writeUInt32LE(0xbeda_107f, 0x40);
  header.writeUInt32LE(0x0001_0001, 0x44);
  header.writeUInt32LE(400, 0x48);
  header.writeUInt32LE(1, 0x4c);
  header.writeUInt32LE(MIB, 0x154);
  header.writeUInt32LE(dataOffset, 0x158);
  header.writeUInt32LE(512, 0x168);
  header.writeBigUInt64LE(BigInt(map.length) * BigInt(MIB), 0x170);
  header.writeUInt32LE(MIB, 0x178);
  header.writeUInt32LE(map.length, 0x180);
  header.writeUInt32LE(stored, 0x184);
  // Identity and modification identity: any version-4 UUIDs.
  for (const at of [0x188, 0x198]) {
    random.bytes(16).copy(header, at);
    header[at + 7] = 0x40 | (header[at + 7] & 0x0f);
    header[at + 8] = 0x80 | (header[at + 8] & 0x3f);
  }
  header.writeUInt32LE(512, 0x1d4);
  const file = openSync(path, 'w');
  writeSync(file, header, 0, header.length, 0);
  writeSync(file, Buffer.from(map.buffer), 0, map.byteLength, MIB);
  return { file, dataOffset };
}

/** Random bytes that depend on nothing but the seed: the key stream of a cipher. */
export function seeded(seed) {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  const bytes = (length) => cipher.update(Buffer.alloc(length));
  let pool = bytes(65536);
  let used = 0;
  const below = (bound) => {
    if (used + 4 > pool.length) {
      pool = bytes(65536);
      used = 0;
    }
    const value = pool.readUInt32LE(used);
    used += 4;
    return Math.floor((value / 2 ** 32) * bound);
  };
  return { bytes, below };
}

function makeText(random, length) {
  const lines = [];
  for (let size = 0; size < length; ) {
    const line = Array.from({ length: 10 }, () => WORDS[random.below(WORDS.length)]).join(' ');
    lines.push(line);
    size += line.length + 1;
  }
  return Buffer.from(lines.join('\n'), 'latin1').subarray(0, length);
}
