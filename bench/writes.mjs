/**
 * `node writes.mjs IMAGE COUNT BYTES STEP DEPTH`: writes so many pieces of so many bytes, each `STEP` behind the last,
 * round and round the disk, as many at a time as `DEPTH` says: what `qemu-img bench -w` does. No flush but that of closing.
 */
import { Disk } from '../dist/index.js';

const [image, ...numbers] = process.argv.slice(2);
const [count, bytes, step, depth] = numbers.map(Number);
const disk = await Disk.open(image, { mode: 'write', format: 'qcow2', flushAfterMs: 0 });
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
