/** Flushes of one disk never overlap, at whatever moment they are asked for. */
import { expect, it } from 'vitest';
import { Flusher, type FlusherOptions } from '../../src/disk/path/flusher.ts';
import type { Image, SealedMetadata } from '../../src/image/contract.ts';
import { MemoryStorage } from '../../src/storage/index.ts';

const NO_TIMER: FlusherOptions = { ignoreFlush: false, afterMs: 0, timers: { set: () => null, clear: () => {} } };

it.each([0, 1, 2, 3, 4, 5, 6, 7, 8])(
  'a flush asked for %i turns after the one before ended waits its turn',
  async (turns) => {
    let running = 0;
    let most = 0;
    const storage = new MemoryStorage();
    const image: Pick<Image, 'seal' | 'settle' | 'storages' | 'dirtyBytes'> = {
      dirtyBytes: 0,
      storages: () => [storage],
      seal(): SealedMetadata {
        running++;
        most = Math.max(most, running);
        return { stage: [], root: [], publish: [] };
      },
      settle() {
        running--;
      },
    };
    const flusher = new Flusher(image as Image, NO_TIMER);
    flusher.noteChange();
    const first = flusher.flush();
    flusher.noteChange();
    // Waits for the first one and starts some turns after it.
    const second = flusher.flush();
    const third = first.then(async () => {
      for (let turn = 0; turn < turns; turn++) await null;
      flusher.noteChange();
      await flusher.flush();
    });
    for (let turn = 0; turn < 30; turn++) {
      await null;
      flusher.noteChange();
      await Promise.race([flusher.flush(), null]);
    }
    await Promise.all([second, third]);
    expect(most).toBe(1);
  },
);
