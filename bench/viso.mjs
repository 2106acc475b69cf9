/** Reads a VISO file as a disk, or the files that it names by Node alone: everything once, in pieces of 4 MiB. */
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Disk } from '../dist/index.js';

const PIECE = 4 * 1024 ** 2;
const [kind, name] = process.argv.slice(2);
const buffer = Buffer.alloc(PIECE);

if (kind === 'disk') {
  const disk = await Disk.open(name, { allow: ['same-directory'] });
  for (let at = 0; at < disk.size; at += PIECE) {
    await disk.read(at, buffer.subarray(0, Math.min(PIECE, disk.size - at)));
  }
  await disk.close();
} else {
  for (const entry of (await readdir(name)).sort()) {
    const file = await open(join(name, entry), 'r');
    while ((await file.read(buffer, 0, PIECE, null)).bytesRead > 0);
    await file.close();
  }
}
