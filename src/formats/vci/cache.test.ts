/** An open VCI cache, with concurrent users and little space. */
import { beforeEach, expect, it } from 'vitest';
import { createCache } from '../../disk/change/cache.ts';
import type { CacheImage } from '../../image/cache.ts';
import type { Source, Storage } from '../../storage/contract.ts';
import { forwardedProvider } from '../../storage/forwarding.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { overriding } from '../../testing/overriding.ts';
import { vci } from './index.ts';
import { HEADER } from './layout.ts';
import { LINE } from './lines.ts';

const SIZE = 2 * 1024 ** 2;
const IDENTITY = { image: null, modification: '0f0e0d0c-0b0a-0908-0706-050403020100' };
/** Number of lines in a cache of this size. */
const LINES = 63;

let memory: MemoryProvider;
/** Pending writes; null: writes complete at once. */
let held: (() => void)[] | null;
let failing: boolean;

beforeEach(() => {
  memory = new MemoryProvider();
  held = null;
  failing = false;
});

function source(): Source {
  const provider = forwardedProvider(memory, {
    open: async (name, mode) => {
      const storage = await memory.open(name, mode);
      return overriding(storage, {
        write: async (offset, bytes) => {
          if (failing) throw new Error('no room');
          if (held !== null) await new Promise<void>((resolve) => held?.push(resolve));
          await storage.write(offset, bytes);
        },
      });
    },
  });
  return { provider, name: '/c.vci' };
}

const handle = (): Promise<Storage> => source().provider.open('/c.vci', 'write');

async function make(): Promise<CacheImage> {
  await createCache({ provider: memory, name: '/c.vci' }, { size: SIZE });
  return vci.open(await handle(), { mode: 'write' });
}

const piece = (number: number, lines = 1): Uint8Array =>
  Uint8Array.from({ length: lines * LINE }, (_, index) => (number + Math.floor(index / LINE)) % 251);

async function expectPieces(cache: CacheImage): Promise<void> {
  for (let number = 0; number < 200; number++) {
    if (!cache.look(number * LINE, LINE).cached) continue;
    const bytes = new Uint8Array(LINE);
    await cache.read(number * LINE, bytes);
    expect(
      bytes.every((byte) => byte === number % 251),
      `piece ${number}`,
    ).toBe(true);
  }
}

it('keeps each piece with its own bytes when one between two others found no room', async () => {
  const cache = await make();
  await cache.fill(0, piece(0));
  await cache.fill(2 * LINE, piece(2));
  held = [];
  // All lines are in use: the first two stay where they are, one behind the other in the file.
  const busy = [
    cache.fill(2 * LINE, piece(2)),
    cache.fill(100 * LINE, piece(100, 32)),
    cache.fill(140 * LINE, piece(140, LINES - 34)),
  ];
  const three = cache.fill(0, piece(0, 3));
  for (const go of held.splice(0)) go();
  held = null;
  await Promise.all([...busy, three]);
  expect(cache.look(LINE, LINE).cached).toBe(false);
  await expectPieces(cache);
  await cache.close(null);
});

it('can be used again in full after a write into it failed', async () => {
  const cache = await make();
  failing = true;
  for (let round = 0; round < 4; round++) await expect(cache.fill(0, piece(0, 60))).rejects.toThrow('no room');
  failing = false;
  await cache.fill(70 * LINE, piece(70, 32));
  await cache.fill(102 * LINE, piece(102, LINES - 32));
  expect(cache.info.cached).toBe(LINES * LINE);
  await expectPieces(cache);
  await cache.close(null);
});

it('is empty, and not refused, when its file ends inside of a block', async () => {
  const cache = await make();
  await cache.fill(0, piece(0, 40));
  await cache.close(IDENTITY);
  const file = await memory.open('/c.vci', 'write');
  await file.resize(file.size - 100);
  await file.close();
  const again = await vci.open(await handle(), { mode: 'write' });
  expect(again.info).toMatchObject({ cached: 0, identity: null });
  await again.close(null);
});

it('says that it is in use, durably, before it is', async () => {
  const cache = await make();
  const head = new Uint8Array(HEADER.size);
  await (await memory.open('/c.vci', 'read')).read(0, head);
  expect(HEADER.get(head, 'unclean')).toBe(1);
  await cache.close(IDENTITY);
  await (await memory.open('/c.vci', 'read')).read(0, head);
  expect(HEADER.get(head, 'unclean')).toBe(0);
});
