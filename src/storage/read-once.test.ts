import { expect, it } from 'vitest';
import { ReadOnceStorage } from './read-once.ts';

const SIZE = 100_000;
const DATA = Uint8Array.from({ length: SIZE }, (_, at) => (at * 7) >> 3);

/** Storage over the data in chunks of one buffer, as a decoder has it. */
function made({
  data = DATA,
  chunk = 1000,
  judge = () => true,
}: {
  data?: Uint8Array;
  chunk?: number;
  judge?: (tail: Uint8Array) => boolean;
} = {}) {
  const state = { surprises: 0, closed: false };
  async function* chunks() {
    const room = new Uint8Array(chunk);
    try {
      for (let at = 0; at < data.length; at += chunk) {
        const bytes = data.subarray(at, at + chunk);
        room.set(bytes);
        yield room.subarray(0, bytes.length);
        room.fill(0xee);
      }
    } finally {
      state.closed = true;
    }
  }
  const storage = new ReadOnceStorage({ label: 'x', chunks: chunks(), tail: 64, onSurprise: () => state.surprises++ });
  const open = async () => {
    const head = await storage.readHead(512);
    storage.expect(SIZE, judge);
    return head;
  };
  return { storage, state, open };
}

async function bytesAt(storage: ReadOnceStorage, offset: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  await storage.read(offset, bytes);
  return bytes;
}

it('shows the head as often as it is asked for, then all bytes in order', async () => {
  const { storage, state, open } = made();
  expect(await open()).toEqual(DATA.subarray(0, 512));
  expect(await bytesAt(storage, 100, 50)).toEqual(DATA.subarray(100, 150));
  expect(await bytesAt(storage, SIZE - 64, 64)).toEqual(new Uint8Array(64));
  for (let at = 0; at < SIZE; at += 3333) {
    const length = Math.min(3333, SIZE - at);
    expect(await bytesAt(storage, at, length)).toEqual(DATA.subarray(at, at + length));
  }
  expect(state.surprises).toBe(0);
  await storage.close();
  expect(state.closed).toBe(true);
});

it('serves requests that overtake others, and lists of buffers', async () => {
  const { storage, open } = made();
  await open();
  const order = [
    [5000, 700],
    [0, 2500],
    [5700, 4300],
    [2500, 2500],
  ] as const;
  const all = await Promise.all(order.map(([at, length]) => bytesAt(storage, at, length)));
  for (const [n, [at, length]] of order.entries()) expect(all[n]).toEqual(DATA.subarray(at, at + length));
  const two = [new Uint8Array(1500), new Uint8Array(SIZE - 11_500)];
  await storage.read(10_000, two);
  expect(Buffer.concat(two).equals(DATA.subarray(10_000))).toBe(true);
});

it.each([
  ['more comes', { data: Uint8Array.of(...DATA, 1) }],
  ['less comes', { data: DATA.subarray(0, -1) }],
  ['the end has another meaning', { judge: (tail: Uint8Array) => tail.length !== 64 || tail[63] !== DATA.at(-1) }],
])('reports that %s', async (_, how) => {
  const { storage, state, open } = made(how);
  await open();
  await expect(bytesAt(storage, 0, SIZE)).rejects.toMatchObject({ kind: 'io' });
  expect(state.surprises).toBe(1);
});

it('reports that bytes are asked for twice', async () => {
  const { storage, state, open } = made();
  await open();
  await bytesAt(storage, 0, 5000);
  await expect(bytesAt(storage, 4000, 2000)).rejects.toMatchObject({ kind: 'io' });
  expect(state.surprises).toBe(1);
});

it('is not written', async () => {
  const { storage, open } = made();
  await open();
  for (const call of [storage.write(), storage.zero(), storage.resize()]) {
    await expect(call).rejects.toMatchObject({ kind: 'read-only' });
  }
});
