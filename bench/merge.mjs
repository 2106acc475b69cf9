/**
 * `node merge.mjs BASE CHILD…`: merges all images of a chain into the base. Says on standard error how many times each
 * byte that moved was read and written, whichever is more: `factor 1.002`.
 */
import { readFileSync, statSync } from 'node:fs';
import { Disk } from '../dist/index.js';

const images = process.argv.slice(2);
const disk = await Disk.open(images, { mode: 'write', flushAfterMs: 0 });
const moved = images.slice(1).reduce((sum, image) => sum + statSync(image).size, 0);
const before = transferred();
// Below /dev, where files in memory are, no children are looked for.
await disk.merge('last', 0, { force: true });
const after = transferred();
await disk.close();
const most = Math.max(after.read - before.read, after.written - before.written);
console.error(`factor ${(most / moved).toFixed(3)}`);

/** Bytes that this process moved by system calls, whatever of it was in a cache. */
function transferred() {
  const text = readFileSync('/proc/self/io', 'utf8');
  const number = (name) => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]);
  return { read: number('rchar'), written: number('wchar') };
}
