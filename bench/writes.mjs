/**
 * `node writes.mjs IMAGE COUNT BYTES STEP DEPTH`: makes COUNT writes of BYTES each, every one STEP after the last,
 * round and round the disk, DEPTH at a time: as `qemu-img bench -w` does. The only flush is that of closing.
 */
import { Disk } from '../dist/index.js';

const [image, ...numbers] = process.argv.slice(2);
const [count, bytes, step, depth] = numbers.map(Number);
const disk = await Disk.open(image, { mode: 'write', flushAfterMs: 0 });
const piece = new Uint8Array(bytes).fill(1);
let next = 0;
let offset = 0;
await Promise.all(Array.from({ length: depth }, writer));
await disk.close();

async function writer() {
  while (next < count) {
    next++;
    const at = offset;
    offset = (offset + step) % disk.size;
    await disk.write(at, piece);
  }
}
