import { expect, it } from 'vitest';
import { NULL_GUID } from '../../binary/guid.ts';
import { createImage } from '../../operations/create.ts';
import { openDisk } from '../../operations/open.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { findHeaders } from './headers.ts';

const MIB = 1024 * 1024;

it('empties its log when nothing has changed for a while, and begins again with the next change', async () => {
  const provider = new MemoryProvider();
  const source = { provider, name: '/disk.vhdx' };
  await createImage(source, { format: 'vhdx', size: 4 * MIB });
  const waiting = new Map<number, () => void>();
  let count = 0;
  const timers = {
    set: (_milliseconds: number, run: () => void) => {
      waiting.set(++count, run);
      return count;
    },
    clear: (handle: unknown) => {
      waiting.delete(Number(handle));
    },
  };
  const goOff = async (): Promise<void> => {
    const all = [...waiting.values()];
    waiting.clear();
    for (const run of all) run();
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
  };
  const headerOf = async () => (await findHeaders(await provider.open(source.name, 'read'))).header;
  const disk = await openDisk(source, { mode: 'write', timers, lock: false });
  const first = (await headerOf()).dataWriteGuid;
  await disk.write(0, new Uint8Array(512).fill(1));
  await disk.flush();
  const busy = await headerOf();
  expect([busy.logGuid === NULL_GUID, busy.dataWriteGuid === first]).toEqual([false, false]);
  await goOff();
  const idle = await headerOf();
  expect([idle.logGuid, idle.dataWriteGuid]).toEqual([NULL_GUID, busy.dataWriteGuid]);
  await disk.write(MIB, new Uint8Array(512).fill(2));
  await disk.flush();
  const again = await headerOf();
  expect([again.logGuid === NULL_GUID, again.dataWriteGuid === busy.dataWriteGuid]).toEqual([false, false]);
  await disk.close();
  expect((await headerOf()).logGuid).toBe(NULL_GUID);
});
