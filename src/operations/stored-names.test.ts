import { expect, it } from 'vitest';
import { MemoryProvider } from '../storage/memory.ts';
import { createImage } from './create.ts';
import { renameImage } from './files.ts';
import { inspect } from './inspect.ts';
import { openDisk } from './open.ts';

const SIZE = 64 * 1024;

it('stores a parent whose name has a colon as ./a:b, which no program takes for a protocol', async () => {
  const provider = new MemoryProvider();
  const at = (name: string) => ({ provider, name });
  await createImage(at('/a:b.qcow2'), { size: SIZE });
  await createImage(at('/child.qcow2'), { parent: at('/a:b.qcow2') });
  expect((await inspect(at('/child.qcow2'))).parentName).toBe('./a:b.qcow2');
  await renameImage(at('/a:b.qcow2'), '/http:x.qcow2');
  expect((await inspect(at('/child.qcow2'))).parentName).toBe('./http:x.qcow2');
  await using disk = await openDisk(at('/child.qcow2'), { allow: ['/'] });
  expect(disk.images).toHaveLength(2);
});
