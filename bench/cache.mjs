/**
 * `node cache.mjs IMAGE CACHE`: makes an image, and reads it twice through a cache as if its medium took 5 ms for each
 * request. Says on standard error what part of the first time the second one takes: `factor 0.020`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Disk } from '../dist/index.js';
import { defaultProvider } from '../dist/storage/index.js';

const [image, file] = process.argv.slice(2);
const SIZE = 16 * 2 ** 20;
const PIECE = 65_536;
const LATENCY_MS = 5;

const made = await Disk.create(image, { size: SIZE, force: true });
for (let at = 0; at < SIZE; at += PIECE) await made.write(at, new Uint8Array(PIECE).fill(1 + (at % 251)));
await made.close();
const slow = slowly(defaultProvider());
const first = await readAll();
const second = await readAll();
console.error(`factor ${(second / first).toFixed(3)}`);

async function readAll() {
  const disk = await Disk.open(
    { provider: slow, name: image },
    { format: 'vdi', cache: { file: { provider: defaultProvider(), name: file }, size: 2 * SIZE } },
  );
  const bytes = new Uint8Array(PIECE);
  await disk.read(0, bytes.subarray(0, 1));
  const start = performance.now();
  for (let at = 0; at < SIZE; at += PIECE) await disk.read(at, bytes);
  const took = performance.now() - start;
  await disk.close();
  return took;
}

/** Each read takes a while, as over a network. */
function slowly(provider) {
  return override(provider, {
    open: async (name, mode) => {
      const storage = await provider.open(name, mode);
      return override(storage, {
        readNow: () => false,
        read: async (offset, target) => {
          await sleep(LATENCY_MS);
          await storage.read(offset, target);
        },
      });
    },
  });
}

function override(target, own) {
  return new Proxy(target, {
    get(_, name) {
      const from = name in own ? own : target;
      const value = Reflect.get(from, name, from);
      return typeof value === 'function' ? value.bind(from) : value;
    },
  });
}
