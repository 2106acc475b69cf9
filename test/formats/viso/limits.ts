/** Ways to the bounds of VISO files. */
import { VISO_LIMITS } from '../../../src/formats/viso/limits.ts';
import { createIso } from '../../../src/operations/iso/create.ts';
import { openDisk } from '../../../src/operations/open.ts';
import { MemoryProvider } from '../../../src/storage/memory.ts';
import type { LimitKit } from '../limit-kit.ts';

const MARKER = '--iprt-iso-maker-file-marker-bourne-sh 12345678-1234-1234-1234-123456789abc\n';

async function opens(text: string, amount: number, more = ''): Promise<number> {
  const provider = new MemoryProvider();
  const all = [['/x.viso', text] as const, ['/x.txt', 'x'] as const, ['/more', more] as const];
  for (const [name, content] of all) {
    const storage = await provider.create(name);
    await storage.write(0, new TextEncoder().encode(content));
    await storage.close();
  }
  const disk = await openDisk({ provider, name: '/x.viso' }, { allow: ['same-directory'] });
  await disk.close();
  return amount;
}

/** The same with an ISO image beside it. */
async function opensWithIso(words: string, amount: number): Promise<number> {
  const provider = new MemoryProvider();
  await (await provider.create('/in/x.txt')).close();
  await createIso({ provider, name: '/x.iso' }, '/in', { provider });
  const storage = await provider.create('/x.viso');
  await storage.write(0, new TextEncoder().encode(MARKER + words));
  await storage.close();
  const disk = await openDisk({ provider, name: '/x.viso' }, { allow: ['same-directory'] });
  await disk.close();
  return amount;
}

export const limits: LimitKit<typeof VISO_LIMITS> = {
  bounds: VISO_LIMITS,
  tests: {
    textBytes: { reach: (amount) => opens(`${MARKER}/a=x.txt`.padEnd(amount, '\n'), amount) },
    argumentBytes: { reach: (amount) => opens(`${MARKER}@more`, amount, '/a=x.txt'.padEnd(amount, '\n')) },
    argumentFiles: { reach: (amount) => opens(`${MARKER}${'@more '.repeat(amount)}`, amount, '/a=x.txt ') },
    isoFiles: { reach: (amount) => opensWithIso('--import-iso x.iso '.repeat(amount), amount) },
    isoDepth: { reach: (amount) => opensWithIso(`${'--push-iso x.iso '.repeat(amount)}/x.txt`, amount) },
    words: { reach: (amount) => opens(`${MARKER}/a=x.txt ${'-l '.repeat(amount - 3)}`, amount) },
  },
};
