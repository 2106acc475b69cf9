/** Helpers for tests of queues. */
import { IoQueue } from '../../src/io/queue.ts';
import type { HeldDevice } from '../../src/testing/held-device.ts';

/** Status of a cancelled request. */
export const CANCELED = 'VERR_PDM_MEDIAEX_IOREQ_CANCELED';
/** Lets everything go on that can without the device. */
export const settle = async () => {
  for (let turn = 0; turn < 20; turn++) await null;
};

/** A queue that writes down what is completed: `id status`. */
export function recording(priority = 0): { readonly queue: IoQueue; readonly done: string[] } {
  const done: string[] = [];
  const queue = new IoQueue({
    priority,
    onComplete: (request, error) => done.push(`${request.id} ${error === null ? 'ok' : error.status}`),
  });
  return { queue, done };
}

/** One request at a time, so that the order shows. */
export function inOrder(device: HeldDevice, ...queues: IoQueue[]): void {
  for (const queue of queues) queue.attach(device, { atOnce: 1 });
}

/** Bytes of a request. */
export const sector = () => new Uint8Array(512);
