import { linkSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Environment } from '../disk/open/environment.ts';
import { MemoryProvider } from '../storage/memory.ts';
import { chainFilesOf } from './chain-files.ts';
import { convert } from './convert.ts';
import { copyImage } from './copy.ts';
import { createImage } from './create.ts';
import { openDisk } from './open.ts';
import { setImage } from './set.ts';

const SIZE = 1024 ** 2;
let folder: string;
let allow: readonly string[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-chain-'));
  allow = [folder];
  mkdirSync(at('other'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** base, middle, top; the base with a data file if its format supports one. */
async function makeChain(format: string): Promise<void> {
  const config = format === 'qcow2' ? { data_file: 'data.raw' } : {};
  await createImage(at('base'), { format, size: SIZE, config });
  await createImage(at('middle'), { format, parent: at('base'), parentFormat: format });
  await createImage(at('top'), { format, parent: at('middle'), parentFormat: format, allow });
}

/** Other names of a file: its own, a link, a hard link, one through a linked directory. */
function namesOf(name: string): string[] {
  symlinkSync(at(name), at('other/link'));
  linkSync(at(name), at('other/hard'));
  symlinkSync(folder, at('other/folder'));
  return [at(name), at('other/link'), at('other/hard'), join(at('other/folder'), name), at(`other/../${name}`)];
}

describe.each(['vdi', 'qcow2'])('a forced target (%s)', (format) => {
  const files = format === 'qcow2' ? ['base', 'middle', 'data.raw'] : ['base', 'middle'];

  it.each(files)('never replaces %s, which its own parent is read from', async (name) => {
    await makeChain(format);
    const before = readFileSync(at(name));
    for (const target of namesOf(name)) {
      const wanted = { format, force: true, parent: at('top'), parentFormat: format };
      await expect(createImage(target, { ...wanted, allow }), target).rejects.toMatchObject({ kind: 'exists' });
      await expect(createImage(target, wanted), `${target}, nothing allowed`).rejects.toMatchObject({ kind: 'exists' });
    }
    expect(readFileSync(at(name)).equals(before)).toBe(true);
  });

  it.each(files)('never replaces %s, which the source is read from', async (name) => {
    await makeChain(format);
    const before = readFileSync(at(name));
    for (const target of namesOf(name)) {
      const options = { format: 'vdi', force: true, allow, sourceFormat: format };
      await expect(convert(at('top'), target, options), target).rejects.toMatchObject({ kind: 'exists' });
      await using disk = await openDisk(at('top'), { format, allow });
      await expect(copyImage(disk, 'last', target, options)).rejects.toMatchObject({ kind: 'invalid-argument' });
    }
    expect(readFileSync(at(name)).equals(before)).toBe(true);
  });

  it('replaces files that are not read, and the source by what it reads', async () => {
    await makeChain(format);
    await createImage(at('old'), { format, size: SIZE });
    await createImage(at('old'), { format, force: true, parent: at('top'), parentFormat: format, allow });
    await convert(at('top'), at('top'), { format, force: true, sourceFormat: format, allow });
    await using disk = await openDisk(at('top'), { format, allow: 'none' });
    expect(disk.images).toHaveLength(1);
  });

  it('and a new link make no loop', async () => {
    await makeChain(format);
    for (const parent of ['top', 'middle']) {
      const linking = setImage(
        at('base'),
        { parent: at(parent) },
        { format, parentFormat: format, allow: [at('data.raw')] },
      );
      await expect(linking).rejects.toMatchObject({ kind: 'invalid-argument' });
    }
  });
});

describe('the files of a chain', () => {
  it('that cannot be followed keep from replacing anything', async () => {
    await makeChain('qcow2');
    await createImage(at('other/far'), { format: 'qcow2', parent: at('top'), parentFormat: 'qcow2' });
    await createImage(at('old'), { format: 'vdi', size: SIZE });
    const wanted = { format: 'qcow2', force: true, parent: at('other/far'), parentFormat: 'qcow2' };
    await expect(createImage(at('old'), wanted)).rejects.toMatchObject({
      kind: 'denied',
      hint: expect.stringContaining('--allow'),
    });
    await createImage(at('old'), { ...wanted, allow });
  });

  it('are those that are named, and a parent that is not beside it is known by its UUID', async () => {
    await createImage(at('other/base.vdi'), { size: SIZE });
    await createImage(at('child.vdi'), { parent: at('other/base.vdi') });
    const wanted = { force: true, parent: at('child.vdi') };
    await expect(createImage(at('other/base.vdi'), wanted)).rejects.toMatchObject({ kind: 'exists' });
    const found = await chainFilesOf(at('child.vdi'), { environment: await Environment.of({}) });
    expect(found).toMatchObject({ obstacle: { kind: 'not-found' }, missingUuid: expect.stringMatching(/-/) });
    expect(found.keys.size).toBe(1);
  });

  it('count the cache that it is read through', async () => {
    const provider = new MemoryProvider();
    const [image, cache] = ['/a.vdi', '/c.vci'].map((name) => ({ provider, name }));
    if (image === undefined || cache === undefined) throw new Error('two names');
    await createImage(image, { size: SIZE });
    const options = { format: 'raw', force: true, sourceCache: { file: cache, size: 64 * SIZE } };
    await expect(convert(image, cache, options)).rejects.toMatchObject({ kind: 'exists' });
  });
});
