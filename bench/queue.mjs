/**
 * `node queue.mjs KIND COUNT`: COUNT requests of 4 KiB through a queue, over a device that does nothing, 32 at a time.
 * `reads` are answered at once and told by the callback; `writes` are answered by a promise; `promised` are reads by
 * the method that returns a promise. Prints the microseconds that one takes.
 */
import { IoQueue } from '../dist/index.js';

const [kind, number] = process.argv.slice(2);
const count = Number(number);
const DEPTH = 32;
const done = Promise.resolve();
/** A disk that is all there and holds nothing. */
const device = {
  label: 'nothing',
  size: 2 ** 40,
  blockSize: 0,
  can: { write: true, zero: true, discard: true, random: true },
  readNow: () => true,
  read: () => done,
  write: () => done,
  zero: () => done,
  flush: () => done,
  close: () => done,
};
const piece = new Uint8Array(4096);

// Once to warm up.
await run(count / 10);
const started = performance.now();
await run(count);
const microseconds = ((performance.now() - started) * 1000) / count;
console.error(`factor ${microseconds.toFixed(4)}`);

function run(requests) {
  return kind === 'promised' ? promised(requests) : called(requests);
}

async function called(requests) {
  let submitted = 0;
  let completed = 0;
  let finish;
  const finished = new Promise((resolve) => {
    finish = resolve;
  });
  const submit = (request) => {
    const offset = (submitted * 4096) % device.size;
    submitted++;
    if (kind === 'writes') request.write(offset, piece);
    else request.read(offset, piece);
  };
  const queue = new IoQueue({
    onComplete(request, error) {
      if (error !== null) throw error;
      completed++;
      if (submitted < requests) submit(request);
      else if (completed === requests) finish();
    },
  });
  queue.attach(device);
  for (let id = 0; id < DEPTH; id++) submit(queue.allocate({ id }));
  await finished;
  await queue.detach();
}

async function promised(requests) {
  const queue = new IoQueue();
  queue.attach(device);
  let submitted = 0;
  const reader = async () => {
    while (submitted < requests) {
      submitted++;
      await queue.read(0, piece);
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, reader));
  await queue.detach();
}
