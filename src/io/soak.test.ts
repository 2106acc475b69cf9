/** A million requests through queues leave memory use unchanged. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, it } from 'vitest';
import { rounds } from '../../test/conformance/random.ts';
import { HeldDevice } from '../testing/held-device.ts';
import { IoBufferManager } from './buffers.ts';
import { IoIterator } from './iterator.ts';
import { IoQueue, type IoRequest } from './queue.ts';

const REQUESTS = rounds(1_000_000, 10_000_000);
const MIB = 2 ** 20;

setFlagsFromString('--expose-gc');
const gc = runInNewContext('gc') as () => void;

/** Bytes in use after garbage collection. */
async function memoryInUse(): Promise<number> {
  for (let time = 0; time < 3; time++) {
    gc();
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + external + arrayBuffers;
}

it('a million queued requests leave no memory behind', async () => {
  const device = new HeldDevice(2 * MIB);
  device.atOnce = true;
  device.log.push = () => 0;
  device.write = async () => {};
  device.flush = async () => {};
  using manager = new IoBufferManager({ limit: MIB });
  const target = new Uint8Array(4096);
  let [completed, wanted, cancelled] = [0, 0, 0];
  let finish = (): void => {};
  const submit = (request: IoRequest<number>): void => {
    const turn = request.userData ?? 0;
    request.userData = turn + 1;
    const offset = (turn % 512) * 4096;
    if (turn % 100 === 0) {
      using buffer = manager.allocateNow(8192);
      const segments = [
        { start: offset, size: 4096 },
        { start: 0, size: 4096 },
      ];
      request.submit('read', new IoIterator(device, segments), buffer);
    } else if (turn % 50 === 1) request.flush();
    else if (turn % 3 === 0) request.write(offset, target);
    else request.read(offset, target);
    if (turn % 64 === 5) request.cancel();
  };
  const queues = [0, 1, 2].map((priority) => {
    const onComplete = (request: IoRequest<number>, error: Error | null): void => {
      completed++;
      if (error !== null) cancelled++;
      if (completed + 64 <= wanted) submit(request);
      else if (completed === wanted) finish();
    };
    return new IoQueue<number>({ priority, onComplete });
  });
  for (const queue of queues) queue.attach(device);
  const requests = Array.from({ length: 64 }, (_, id) => queues[id % 3]?.allocate({ id, userData: id }));
  const run = async (count: number): Promise<void> => {
    await new Promise<void>((resolve) => {
      finish = resolve;
      [completed, wanted] = [0, count];
      for (const request of requests) if (request !== undefined) submit(request);
    });
    // Those with promises too.
    const [queue] = queues;
    for (let left = count / 10; left > 0; left -= 100) {
      await Promise.all(Array.from({ length: 100 }, () => queue?.read(0, target)));
    }
  };
  await run(REQUESTS / 10);
  const before = await memoryInUse();
  await run(REQUESTS);
  const grown = (await memoryInUse()) - before;
  expect(grown).toBeLessThan(MIB / 2);
  expect(cancelled).toBeGreaterThan(REQUESTS / 100);
  for (const queue of queues) await queue.detach();
});
