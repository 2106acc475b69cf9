/** Links of VMDK images to their parents, as VMware, QEMU and VirtualBox store them, and identities of the content. */
import { describe, expect, it } from 'vitest';
import { checkImage, childrenOf, createImage, Disk, inspect, renameImage } from '../../index.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import { RecordingProvider } from '../../testing/recording-storage.ts';

const MIB = 1024 * 1024;
const GRAIN = 65_536;
const BESIDE = { allow: ['same-directory'] } as const;
const ESX = '/vmfs/volumes/5e1a-77c0/vm/base.vmdk';
/** Begin and end of the descriptor that new sparse images embed. */
const EMBEDDED = [512, 20 * 512] as const;

const source = (provider: MemoryProvider, name: string) => ({ provider, name });

async function write(provider: MemoryProvider, name: string, offset: number, value: number): Promise<void> {
  const linkage = 'off';
  await using disk = await Disk.open(source(provider, name), { ...BESIDE, mode: 'write', flushAfterMs: 0, linkage });
  await disk.write(offset, new Uint8Array(GRAIN).fill(value));
}

/** A base of ones, and a child whose second grain is twos. */
async function family(variant: readonly string[] = []): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  // Directories exist by their files.
  for (const name of ['/vm/note', '/other/note', '/away/note']) await (await provider.create(name)).close();
  await createImage(source(provider, '/vm/base.vmdk'), { format: 'vmdk', size: 4 * MIB, variant });
  await write(provider, '/vm/base.vmdk', 0, 1);
  await createImage(source(provider, '/vm/kid.vmdk'), { format: 'vmdk', parent: source(provider, '/vm/base.vmdk') });
  await write(provider, '/vm/kid.vmdk', GRAIN, 2);
  return provider;
}

/** Changes the descriptor inside an image as an editor would. */
async function edit(
  provider: MemoryProvider,
  change: (text: string) => string,
  name = '/vm/kid.vmdk',
): Promise<string> {
  const storage = await provider.open(name, 'write');
  const bytes = new Uint8Array(EMBEDDED[1]);
  await storage.read(EMBEDDED[0], bytes);
  const text = change(new TextDecoder().decode(bytes).replace(/\0+$/, ''));
  const changed = new Uint8Array(EMBEDDED[1]);
  changed.set(new TextEncoder().encode(text));
  await storage.write(EMBEDDED[0], changed);
  await storage.close();
  return text;
}

const withoutUuids = (text: string): string => text.replaceAll(/ddb\.uuid.*\n/g, '');
const withHint =
  (hint: string) =>
  (text: string): string =>
    withoutUuids(text).replace(/parentFileNameHint=.*/, `parentFileNameHint="${hint}"`);
/** As VirtualBox links: by UUIDs alone. */
const byUuids = (text: string): string =>
  text.replace(/parentFileNameHint=.*\n/, '').replace(/parentCID=.*/, 'parentCID=ffffffff');

async function read(provider: MemoryProvider, name = '/vm/kid.vmdk'): Promise<readonly [number, number, string]> {
  await using disk = await Disk.open(source(provider, name), BESIDE);
  const bytes = new Uint8Array(2 * GRAIN);
  await disk.read(0, bytes);
  return [bytes[0] ?? 0, bytes[GRAIN] ?? 0, disk.warnings.join()];
}

describe('the link of a VMDK child', () => {
  it('is written for VMware, QEMU and VirtualBox at once', async () => {
    const provider = await family();
    const base = await inspect(source(provider, '/vm/base.vmdk'));
    const text = await edit(provider, (one) => one);
    expect(text).toContain(`parentCID=${base.contentId}\n`);
    expect(text).toContain('parentFileNameHint="base.vmdk"\n');
    expect(text).toContain(`ddb.uuid.parent = "${base.uuid}"\n`);
    expect(text).toContain(`ddb.uuid.parentmodification = "${base.modificationUuid}"\n`);
  });

  it.each([
    ['VMware and QEMU', withoutUuids],
    ['VirtualBox', byUuids],
  ])('is read as %s write it, and tells that the parent changed', async (_, change) => {
    const provider = await family();
    await edit(provider, change);
    expect(await read(provider)).toEqual([1, 2, '']);
    expect((await checkImage(source(provider, '/vm/kid.vmdk'), BESIDE)).findings).toEqual([]);
    await write(provider, '/vm/base.vmdk', 0, 3);
    expect(await read(provider)).toEqual([3, 2, expect.stringContaining('modified after')]);
    const kid = source(provider, '/vm/kid.vmdk');
    expect(await checkImage(kid, BESIDE)).toMatchObject({
      clean: true,
      findings: [{ severity: 'warning', code: 'parent-changed' }],
    });
    expect((await inspect(kid, { ...BESIDE, chain: true })).warnings.join()).toContain('modified after');
    await expect(Disk.open(kid, { ...BESIDE, linkage: 'strict' })).rejects.toMatchObject({ kind: 'corrupt' });
  });

  it('reads a parent without a check where its ID says so', async () => {
    const provider = await family();
    await edit(provider, (text) => withoutUuids(text).replace(/parentCID=.*/, 'parentCID=fffffffe'));
    await write(provider, '/vm/base.vmdk', 0, 3);
    expect(await read(provider)).toEqual([3, 2, '']);
    await edit(provider, (text) => text.replace(/parentFileNameHint=.*\n/, ''));
    expect((await inspect(source(provider, '/vm/kid.vmdk'))).differencing).toBe(true);
    await expect(read(provider)).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('is that of a child for VMware too, over a parent that has no content ID', async () => {
    const provider = await family();
    await createImage(source(provider, '/vm/p.vdi'), { format: 'vdi', size: MIB });
    const kid = source(provider, '/vm/over.vmdk');
    await createImage(kid, { format: 'vmdk', parent: source(provider, '/vm/p.vdi') });
    // Its UUID is not needed for a link: a raw parent has none.
    await createImage(source(provider, '/vm/p.raw'), { format: 'raw', size: MIB });
    const raw = { format: 'vmdk', parent: source(provider, '/vm/p.raw'), parentFormat: 'raw' } as const;
    expect((await createImage(source(provider, '/vm/over-raw.vmdk'), raw)).warnings).toEqual([]);
    expect(await edit(provider, (text) => text, '/vm/over.vmdk')).toContain('parentCID=fffffffe\n');
    expect((await inspect(kid, { ...BESIDE, chain: true })).chain?.map(({ format }) => format)).toEqual([
      'vdi',
      'vmdk',
    ]);
  });

  it.each([ESX, 'C:\\Users\\me\\vm\\base.vmdk', '../vm2/base.vmdk'])(
    'finds the file beside it by the last part of %s, if its content ID is right',
    async (hint) => {
      const provider = await family();
      await edit(provider, withHint(hint));
      expect(await read(provider)).toEqual([1, 2, '']);
      expect((await childrenOf(source(provider, '/vm/base.vmdk'))).names).toEqual(['/vm/kid.vmdk']);
      await write(provider, '/vm/base.vmdk', 0, 3);
      await expect(read(provider)).rejects.toMatchObject({ kind: expect.stringMatching(/not-found|denied/) });
    },
  );

  it('prefers the file that its name leads to, and finds nothing without a content ID', async () => {
    const provider = await family();
    await createImage(source(provider, '/other/base.vmdk'), { format: 'vmdk', size: 4 * MIB });
    await edit(provider, withHint('/other/base.vmdk'));
    await using disk = await Disk.open(source(provider, '/vm/kid.vmdk'), { allow: ['/vm', '/other'] });
    expect(disk.images[0]?.name).toBe('/other/base.vmdk');
    expect(disk.warnings.join()).toContain('modified after');
    await edit(provider, (text) => withHint(ESX)(text).replace(/parentCID=.*/, 'parentCID=ffffffff'));
    await expect(read(provider)).rejects.toMatchObject({ kind: expect.stringMatching(/not-found|denied/) });
  });

  it('follows a parent that moves, also when its name was one of another system', async () => {
    const provider = await family();
    await edit(provider, withHint(ESX));
    const { warnings } = await renameImage(source(provider, '/vm/base.vmdk'), '/vm/first.vmdk');
    expect(warnings.join()).toContain('now refers to');
    expect((await inspect(source(provider, '/vm/kid.vmdk'))).parentName).toBe('first.vmdk');
    expect(await read(provider)).toEqual([1, 2, '']);
    await edit(provider, withHint('/vmfs/first.vmdk'));
    const moved = await renameImage(source(provider, '/vm/kid.vmdk'), '/away/kid.vmdk');
    expect(moved.warnings.join()).toMatch(/finds its parent only in its own directory/);
  });

  it('leads to the parent that matches all identities, whatever else has its UUID', async () => {
    const provider = await family();
    await edit(provider, byUuids);
    const copy = await provider.create('/vm/a-copy.vmdk');
    const original = await provider.open('/vm/base.vmdk', 'read');
    const bytes = new Uint8Array(original.size);
    await original.read(0, bytes);
    await copy.write(0, bytes);
    await Promise.all([copy.close(), original.close()]);
    await write(provider, '/vm/a-copy.vmdk', 0, 9);
    expect(await read(provider)).toEqual([1, 2, '']);
    // Both have changed now: reading says that it is a guess, and writing does not guess.
    await write(provider, '/vm/base.vmdk', 0, 8);
    expect((await read(provider))[2]).toContain('Several files match');
    await expect(write(provider, '/vm/kid.vmdk', 0, 1)).rejects.toMatchObject({ kind: 'invalid-argument' });
  });
});

describe('a session of a VMDK image', () => {
  it.each<readonly [string, (disk: Disk, provider: MemoryProvider) => Promise<unknown>]>([
    ['compaction', (disk) => disk.compact()],
    ['compaction of the parent', (disk) => disk.compact({ image: 0 })],
    ['rebase', (disk, provider) => disk.rebase(source(provider, '/vm/new.vmdk'))],
    ['commit', (disk) => disk.commit()],
    ['merge into the parent', (disk) => disk.merge(1, 0)],
    ['merge into the child', (disk) => disk.merge(0, 1)],
    ['new child', (disk, provider) => disk.createDiff(source(provider, '/vm/new-kid.vmdk'), { format: 'vmdk' })],
  ])('has ended once the disk is closed: %s', async (_, change) => {
    const provider = await family();
    await createImage(source(provider, '/vm/new.vmdk'), { format: 'vmdk', size: 4 * MIB });
    const disk = await Disk.open(source(provider, '/vm/kid.vmdk'), { ...BESIDE, mode: 'write', flushAfterMs: 0 });
    // Something to give up, and something to move.
    await disk.write(2 * GRAIN, new Uint8Array(GRAIN));
    await disk.write(3 * GRAIN, new Uint8Array(GRAIN).fill(3));
    await disk.close();
    const again = await Disk.open(source(provider, '/vm/kid.vmdk'), { ...BESIDE, mode: 'write', flushAfterMs: 0 });
    await change(again, provider);
    await again.close();
    for await (const name of provider.list('/vm')) {
      if (name.endsWith('.vmdk'))
        expect({ name, ...(await inspect(source(provider, name))) }).toMatchObject({ name, dirty: false });
    }
  });

  it.each([['dynamic'], ['split'], ['fixed']])(
    'begins with a new content ID that is durable before any data, and is marked: %s',
    async (word) => {
      const inner = new MemoryProvider();
      await createImage(source(inner, '/a.vmdk'), { format: 'vmdk', size: 4 * MIB, variant: [word] });
      const provider = new RecordingProvider(inner);
      const { contentId: before } = await inspect(source(inner, '/a.vmdk'));
      const disk = await Disk.open({ provider, name: '/a.vmdk' }, { mode: 'write', flushAfterMs: 0 });
      await disk.write(GRAIN, new Uint8Array(GRAIN).fill(0xa7));
      await disk.flush();
      const marked = await inspect(source(inner, '/a.vmdk'));
      await disk.close();
      const { entries } = provider.log;
      const starts = entries.flatMap((entry) => (entry.kind === 'start' ? [entry.operation] : []));
      const writes = starts.flatMap((one) => (one.kind === 'write' ? [one] : []));
      const isData = ({ bytes }: (typeof writes)[number]): boolean =>
        bytes.length >= 4096 && bytes.every((b) => b === 0xa7);
      const data = writes.findIndex(isData);
      const id = writes.findIndex(({ bytes }) => /CID=/.test(new TextDecoder('latin1').decode(bytes)));
      expect(id).toBeLessThan(data);
      const [first, stored] = [writes[id], writes[data]];
      const flush = starts.find(
        (one) => one.kind === 'flush' && one.file === first?.file && one.startedAt > (first?.endedAt ?? 0),
      );
      expect(flush?.endedAt).toBeLessThan(stored?.startedAt ?? 0);
      expect(marked.contentId).not.toBe(before);
      expect(marked.dirty).toBe(word === 'fixed' ? null : true);
      expect((await inspect(source(inner, '/a.vmdk'))).dirty).toBe(word === 'fixed' ? null : false);
    },
  );
});
