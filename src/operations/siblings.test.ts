/** Searches for images beside an image: directories that cannot be listed, and children behind links. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ImageError } from '../errors.ts';
import { LIMITS } from '../limits.ts';
import { ForwardingProvider } from '../storage/forwarding.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { createImage } from './create.ts';
import { removeImage, renameImage } from './files.ts';
import { openDisk } from './open.ts';
import { setImage } from './set.ts';
import { childrenOf } from './siblings.ts';

const SIZE = 64 * 1024;

/** Fails as a directory of mode 0711 does. */
class Unlistable extends ForwardingProvider {
  // biome-ignore lint/correctness/useYield: it fails before the first name
  override async *list(directory: string): AsyncGenerator<string> {
    const cause = new Error('EACCES');
    throw new ImageError('denied', 'Permission denied', { path: directory, cause });
  }
}

/** One descriptor is left when the neighbours are looked at. */
class Exhausted extends ForwardingProvider {
  exhausted = false;

  override open(name: string, mode: 'read' | 'write') {
    if (this.exhausted && name.includes('child')) {
      const status = 'VERR_TOO_MANY_OPEN_FILES';
      return Promise.reject(new ImageError('limit', 'Too many open files in this process', { path: name, status }));
    }
    return super.open(name, mode);
  }
}

describe('a directory that cannot be listed', () => {
  async function family() {
    const provider = new Unlistable(new MemoryProvider());
    await createImage({ provider, name: '/base.qcow2' }, { size: SIZE });
    const parent = { provider, name: '/base.qcow2' };
    await createImage({ provider, name: '/child.qcow2' }, { parent });
    return { provider, base: parent, child: { provider, name: '/child.qcow2' } };
  }

  it('makes a search incomplete, and says why', async () => {
    const { base } = await family();
    const children = await childrenOf(base);
    expect(children).toMatchObject({ names: [], complete: false, obstacle: { kind: 'denied' } });
  });

  it('refuses to delete, rename or merge what an unseen image may need, and names the way out', async () => {
    const { provider, base, child } = await family();
    const refused = { kind: 'busy', hint: expect.stringContaining('--force') };
    await expect(removeImage(base)).rejects.toMatchObject(refused);
    await expect(renameImage(base, '/other.qcow2')).rejects.toMatchObject(refused);
    await using disk = await openDisk(child, { mode: 'write', allow: ['/'] });
    await expect(disk.merge('last', 0)).rejects.toMatchObject(refused);
    expect(await provider.lookUp('/base.qcow2')).not.toBeNull();
  });

  it('does it with force, and warns', async () => {
    const { child } = await family();
    const { removed, warnings } = await removeImage(child, { force: true });
    expect(removed).toEqual(['/child.qcow2']);
    expect(warnings.join()).toContain('cannot be searched (/: Permission denied)');
  });

  it('keeps no command from its work whose search is only for a warning', async () => {
    const provider = new Unlistable(new MemoryProvider());
    await createImage({ provider, name: '/base.vdi' }, { size: SIZE });
    const { warnings } = await setImage({ provider, name: '/base.vdi' }, { uuid: 'random' });
    expect(warnings.join()).toContain('cannot be searched');
  });

  it('asks for the name of a parent that is found by UUID only', async () => {
    const provider = new Unlistable(new MemoryProvider());
    const parent = { provider, name: '/base.vdi' };
    await createImage(parent, { size: SIZE });
    await createImage({ provider, name: '/child.vdi' }, { parent });
    await expect(openDisk({ provider, name: '/child.vdi' }, { allow: ['/'] })).rejects.toMatchObject({
      kind: 'not-found',
      hint: expect.stringMatching(/^Name the parent with --parent: .*\/: Permission denied/),
    });
  });
});

it('does not take a child for absent because no file can be opened any more', async () => {
  const provider = new Exhausted(new MemoryProvider());
  const base = { provider, name: '/base.qcow2' };
  await createImage(base, { size: SIZE });
  await createImage({ provider, name: '/child.qcow2' }, { parent: base });
  provider.exhausted = true;
  await expect(removeImage(base)).rejects.toMatchObject({
    kind: 'busy',
    context: { found: expect.stringContaining('oo many open files') },
  });
});

describe('children behind links', () => {
  let folder: string;
  const at = (...names: string[]) => join(folder, ...names);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'vdkit-siblings-'));
    for (const name of ['here', 'there']) mkdirSync(at(name));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('are found outside of the directory, with names relative to either place', async () => {
    const parent = at('here', 'base.qcow2');
    await createImage(parent, { size: SIZE });
    await createImage(at('there', 'child.qcow2'), { parent });
    symlinkSync(at('there', 'child.qcow2'), at('here', 'link.qcow2'));
    expect((await childrenOf(parent)).names).toEqual([at('here', 'link.qcow2')]);
    await expect(removeImage(parent)).rejects.toMatchObject({ kind: 'busy' });
    await expect(renameImage(parent, at('here', 'other.qcow2'))).rejects.toMatchObject({ kind: 'busy' });
  });

  it('are found beside a link to their parent', async () => {
    await createImage(at('there', 'base.qcow2'), { size: SIZE });
    const link = at('here', 'base.qcow2');
    symlinkSync(join('..', 'there', 'base.qcow2'), link);
    await createImage(at('here', 'child.qcow2'), { parent: link });
    expect((await childrenOf(link)).names).toEqual([at('here', 'child.qcow2')]);
    await expect(removeImage(link)).rejects.toMatchObject({ kind: 'busy' });
  });
});

it('passes over the extents of split images, and reads a child whose extents are missing', async () => {
  const provider = new MemoryProvider();
  const base = { provider, name: '/base.vmdk' };
  await createImage(base, { size: SIZE });
  await createImage({ provider, name: '/child.vmdk' }, { parent: base, variant: ['split'] });
  await provider.remove('/child-s001.vmdk');
  const header = new Uint8Array(512);
  header.set([0x4b, 0x44, 0x4d, 0x56, 1]);
  for (let number = 1; number <= LIMITS.parentCandidates; number++) {
    const storage = await provider.create(`/other-s${number}.vmdk`);
    await storage.write(0, header);
    await storage.close();
  }
  expect(await childrenOf(base)).toEqual({ names: ['/child.vmdk'], complete: true });
});
