/** Ways to the bounds of cue sheets. */
import { CUE_LIMITS } from '../../../src/formats/cue/limits.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const SHEET = 'FILE x BINARY\nTRACK 1 AUDIO\nINDEX 1 0:0:0\n';
const MINUTE = 60 * 75 * 2352;

async function opens(text: string, length: number, amount: number): Promise<number> {
  const provider = new MemoryProvider();
  const sheet = await provider.create('/x.cue');
  await sheet.write(0, new TextEncoder().encode(text));
  const file = await provider.create('/x');
  await file.resize(length);
  await Promise.all([sheet.close(), file.close()]);
  const disk = await openDisk({ provider, name: '/x.cue' }, { allow: ['same-directory'] });
  await disk.close();
  return amount;
}

export const limits: LimitKit<typeof CUE_LIMITS> = {
  bounds: CUE_LIMITS,
  tests: {
    sheetBytes: {
      reach: (amount) =>
        opens(SHEET + `${' '.repeat(1023)}\n`.repeat(1025).slice(0, amount - SHEET.length), 2352, amount),
    },
    files: { reach: (amount) => opens('FILE y BINARY\n'.repeat(amount - 1) + SHEET, 2352, amount) },
    minutes: {
      reach: (amount) => opens(`${SHEET}TRACK 2 AUDIO\nINDEX 1 ${amount}:0:0\n`, (amount + 1) * MINUTE, amount),
    },
  },
};
