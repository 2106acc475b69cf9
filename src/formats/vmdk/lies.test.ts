/** Descriptors that lie: each ends in a failure with its kind, and changes nothing. */
import { describe, expect, it } from 'vitest';
import { LIES, type Lie } from '../../../test/formats/vmdk/lies.ts';
import { checkImage } from '../../operations/check.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const NAME = '/box/image.vmdk';
const SECRET = '/secret/other.raw';

async function boxed({ descriptor, files }: Lie): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  const bytes = typeof descriptor === 'string' ? new TextEncoder().encode(descriptor) : descriptor;
  const all = { [NAME]: bytes, [SECRET]: new Uint8Array(4096).fill(7) };
  for (const [file, size] of Object.entries(files)) Object.assign(all, { [`/box/${file}`]: new Uint8Array(size) });
  for (const [name, content] of Object.entries(all)) {
    const storage = await provider.create(name);
    await storage.write(0, content);
    await storage.close();
  }
  return provider;
}

async function contents(provider: MemoryProvider): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const directory of ['/box', '/secret']) {
    for await (const name of provider.list(directory)) {
      const storage = await provider.open(name, 'read');
      const bytes = new Uint8Array(storage.size);
      await storage.read(0, bytes);
      await storage.close();
      found[name] = Buffer.from(bytes).toString('latin1');
    }
  }
  return found;
}

describe.each(LIES.map((lie) => [lie.name, lie] as const))('a descriptor with %s', (_name, lie) => {
  it('is refused for reading, writing and repair, and changes nothing', async () => {
    const provider = await boxed(lie);
    const before = await contents(provider);
    const source = { provider, name: NAME };
    const options = { allow: ['/box'] };
    await expect(openDisk(source, options)).rejects.toMatchObject({ kind: lie.read });
    await expect(openDisk(source, { ...options, mode: 'write' })).rejects.toMatchObject({ kind: lie.write });
    for (const repair of [false, true]) {
      await checkImage(source, { ...options, repair }).catch((error: unknown) => expect(error).toHaveProperty('kind'));
    }
    expect(await contents(provider)).toEqual(before);
  });
});

it.each(['VMFSRDM', 'VMFSRAW'])('shows the facts of an image that maps a device: %s', async (type) => {
  const lie = LIES.find(({ name }) => name === `a mapped device: ${type}`);
  if (lie === undefined) throw new Error('there is such a descriptor');
  const report = await inspect({ provider: await boxed(lie), name: NAME });
  expect(report).toMatchObject({ virtualSize: 64 * 1024, details: { 'extent 1': expect.stringContaining(type) } });
});
