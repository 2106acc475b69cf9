/**
 * Which file is the parent, for every pair of formats that know each other by UUID: backup copies and older states lie
 * beside the right one, in every order that a directory may have.
 */
import { describe, expect, it } from 'vitest';
import type { Format, ImageInfo, Mapping } from '../../src/image/contract.ts';
import { defineFormat } from '../../src/image/define-format.ts';
import { mainFile } from '../../src/image/files.ts';
import { parentLinks, parentReference } from '../../src/image/parent.ts';
import { PlainImage } from '../../src/image/plain-image.ts';
import { plainInfo } from '../../src/image/plain-info.ts';
import { Registry } from '../../src/image/registry.ts';
import { createImage, Disk, FORMATS, inspect, isImageError, rebaseImage } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { LINKED, makeOptions, SMALL, STAMPED } from '../scenarios/formats.ts';

const SIZE = 4 * SMALL;
const OPEN = { allow: ['same-directory'], flushAfterMs: 0 } as const;

/** Copies the bytes of a file, as people make backups. */
async function backUp(provider: MemoryProvider, from: string, to: string, into = provider): Promise<void> {
  const source = await provider.open(from, 'read');
  const bytes = new Uint8Array(source.size);
  await source.read(0, bytes);
  const target = await into.create(to);
  await target.write(0, bytes);
}

function withName(info: ImageInfo, name: string): ImageInfo {
  return { ...info, ...parentLinks(parentReference({ ...info.parent, names: [name] })) };
}

async function fillDisk(provider: MemoryProvider, name: string, byte: number): Promise<void> {
  await using disk = await Disk.open({ provider, name }, { ...OPEN, mode: 'write' });
  await disk.write(0, new Uint8Array(SIZE).fill(byte));
}

/** First byte of the disk. */
async function firstByte(disk: Disk): Promise<number | undefined> {
  const bytes = new Uint8Array(512);
  await disk.read(0, bytes);
  return bytes[0];
}

describe.each(LINKED)('parents: $title', ({ lower, upper }) => {
  const at = (provider: MemoryProvider, name: string) => ({ provider, name });
  const open = (provider: MemoryProvider, mode: 'read' | 'write' = 'read', more = {}) =>
    Disk.open(at(provider, '/child'), { ...OPEN, mode, ...more });

  /**
   * A parent of twos, whose child remembers it so, beside older states of ones and newer ones of threes. The names are
   * those of the directory, in its order. A name that the child may store leads nowhere there.
   */
  async function family(order: readonly ('parent' | 'older' | 'newer' | 'child')[]): Promise<MemoryProvider> {
    const made = new MemoryProvider();
    await createImage(at(made, '/origin'), { ...makeOptions({ format: lower, block: SMALL }), size: SIZE });
    await fillDisk(made, '/origin', 1);
    await backUp(made, '/origin', '/older');
    await fillDisk(made, '/origin', 2);
    const parent = { parent: at(made, '/origin'), parentFormat: lower.name };
    await createImage(at(made, '/child'), { ...makeOptions({ format: upper, block: SMALL }), ...parent });
    for (const name of ['/parent', '/newer']) await backUp(made, '/origin', name);
    await fillDisk(made, '/newer', 3);
    const provider = new MemoryProvider();
    for (const name of order) await backUp(made, `/${name}`, `/${name}`, provider);
    return provider;
  }

  const ORDERS = [
    ['older', 'newer', 'parent', 'child'],
    ['child', 'newer', 'parent', 'older'],
    ['parent', 'older', 'newer', 'child'],
  ] as const;

  // A lower image without a modification UUID is the same in all its states.
  const states = STAMPED.includes(lower) ? ORDERS : [];
  it.each(states)('the one that the child remembers is taken: %s, %s, %s, %s', async (...order) => {
    const provider = await family(order);
    for (const linkage of ['warn', 'strict', 'off'] as const) {
      await using disk = await open(provider, 'read', { linkage });
      expect(disk.images.map(({ name }) => name)).toEqual(['/parent', '/child']);
      expect(await firstByte(disk)).toBe(2);
      expect(disk.warnings).toEqual([]);
    }
    const { chain } = await inspect(at(provider, '/child'), { ...OPEN, chain: true });
    expect(chain?.map(({ file }) => file)).toEqual(['/parent', '/child']);
  });

  it.each([
    ['merge', (disk: Disk) => disk.merge(1, 0)],
    ['commit', (disk: Disk) => disk.commit()],
    ['compact', (disk: Disk) => disk.compact()],
    ['resize', (disk: Disk) => disk.resize(SIZE + SMALL)],
  ] as const)('%s goes into the right one, and no other file changes', async (_name, change) => {
    const provider = await family(['older', 'newer', 'parent', 'child']);
    const named = states.length === 0 ? { parent: at(provider, '/parent') } : {};
    await fillChild(provider, named);
    const before = await Promise.all(['/older', '/newer'].map((name) => bytesOf(provider, name)));
    {
      await using disk = await open(provider, 'write', named);
      await change(disk);
      expect(await firstByte(disk)).toBe(2);
    }
    const after = await Promise.all(['/older', '/newer'].map((name) => bytesOf(provider, name)));
    expect(after.every((bytes, index) => bytes.equals(before[index] as Buffer))).toBe(true);
    await using base = await Disk.open(at(provider, '/parent'), { ...OPEN, format: lower.name });
    expect(await firstByte(base)).toBe(2);
  });

  const UNCERTAIN = [
    ['equally good copies', ['parent', 'child'], '/parent'],
    ['states that were all written since', ['older', 'newer', 'child'], '/newer'],
  ] as const;

  describe.each(UNCERTAIN)('where there are only %s', (_what, order, taken) => {
    async function several(): Promise<{ provider: MemoryProvider; files: string[] }> {
      const provider = await family(order);
      if (order.includes('parent' as never)) await backUp(provider, '/parent', '/zz-copy');
      const files = [...new Set([...order.map((name) => `/${name}`), '/zz-copy'])].filter((name) => name !== '/child');
      const there = await Promise.all(files.map((name) => provider.lookUp(name)));
      return { provider, files: files.filter((_, index) => there[index] !== null) };
    }

    it('reading takes one, says so and lists them', async () => {
      const { provider, files } = await several();
      await using disk = await open(provider);
      expect(disk.images[0]?.name).toBe(taken);
      for (const name of files) expect(disk.warnings.join('\n')).toContain(name);
      expect(disk.warnings.join('\n')).toContain(`Using ${taken};`);
      await expect(open(provider, 'read', { linkage: 'strict' })).rejects.toMatchObject({ kind: 'invalid-argument' });
    });

    it('changing anything is refused, with a list, until one is named', async () => {
      const { provider, files } = await several();
      const refused = await open(provider, 'write').catch((error: unknown) => error);
      if (!isImageError(refused)) throw refused;
      expect(refused).toMatchObject({ kind: 'invalid-argument', hint: expect.stringContaining('--parent') });
      for (const name of files) expect(String(refused.context.found)).toContain(name);
      await using disk = await open(provider, 'write', { parent: at(provider, files[1] as string) });
      await disk.write(0, new Uint8Array(512).fill(9));
      await disk.merge(1, 0);
      expect(disk.images.map(({ name }) => name)).toEqual([files[1]]);
    });

    it('a disk that was opened for reading does not begin to write either', async () => {
      const { provider } = await several();
      await using disk = await open(provider);
      const refusal = { kind: 'invalid-argument', hint: expect.stringContaining('--parent') };
      await expect(disk.setOpenOptions('last', { mode: 'write' })).rejects.toMatchObject(refusal);
      await expect(disk.createDiff(at(provider, '/grandchild'), { format: upper.name })).rejects.toMatchObject(refusal);
      expect(await provider.lookUp('/grandchild')).toBeNull();
    });

    it('an image is not rebased onto what may be another disk', async () => {
      const { provider } = await several();
      await createImage(at(provider, '/other'), { ...makeOptions({ format: upper, block: SMALL }), size: SIZE });
      await expect(rebaseImage(at(provider, '/other'), at(provider, '/child'), OPEN)).rejects.toMatchObject({
        kind: 'invalid-argument',
      });
    });
  });

  async function fillChild(provider: MemoryProvider, named = {}): Promise<void> {
    await using disk = await open(provider, 'write', named);
    await disk.write(SMALL, new Uint8Array(SMALL).fill(7));
  }

  async function bytesOf(provider: MemoryProvider, name: string): Promise<Buffer> {
    const storage = await provider.open(name, 'read');
    const bytes = Buffer.alloc(storage.size);
    await storage.read(0, bytes);
    return bytes;
  }

  describe('with a child that stores a name, too', () => {
    /** The upper format, as one that keeps both: its children name a file, and remember its identities. */
    const naming = (name: string): Registry => {
      const format: Format = {
        ...upper,
        open: async (source, options) => {
          const image = await upper.open(source, options);
          return new Proxy(image, {
            get(target, key) {
              if (key === 'info' && source.name === '/child') return withName(target.info, name);
              const value: unknown = Reflect.get(target, key, target);
              return typeof value === 'function' ? value.bind(target) : value;
            },
          });
        },
      };
      return new Registry(FORMATS.map((one) => (one === upper ? format : one)));
    };
    const parentOf = async (provider: MemoryProvider, name: string): Promise<string | undefined> => {
      await using disk = await open(provider, 'write', { registry: naming(name), allow: ['/'] });
      return disk.images[0]?.name;
    };

    it('the file of that name is taken among equally good ones', async () => {
      const provider = await family(['parent', 'child']);
      await backUp(provider, '/parent', '/a-copy');
      await provider.rename('/parent', '/elsewhere/parent', { replace: false });
      await backUp(provider, '/a-copy', '/b-copy');
      expect(await parentOf(provider, 'b-copy')).toBe('/b-copy');
      expect(await parentOf(provider, 'elsewhere/parent')).toBe('/elsewhere/parent');
    });

    it.each(states.length === 0 ? [] : ['older', 'missing', 'text'])(
      'one with the identities is taken where the name leads to: %s',
      async (name) => {
        const provider = await family(['older', 'parent', 'child']);
        await (await provider.create('/text')).write(0, new TextEncoder().encode('a line'));
        expect(await parentOf(provider, name)).toBe('/parent');
      },
    );
  });
});

/** Header of a toy: JSON in the first sector; the second is the disk, unless a parent has it. */
interface Note {
  readonly content: string;
  readonly parent?: { readonly names: readonly string[]; readonly content: string };
}

/** A toy like VMDK: several names of the parent, and an identity of its content instead of UUIDs. */
class NoteImage extends PlainImage {
  readonly note: Note;

  constructor(storage: PlainImage['storage'], note: Note) {
    super(storage);
    this.note = note;
  }

  get info() {
    const { content: contentId, parent } = this.note;
    const link = parent && parentReference({ names: parent.names, contentId: parent.content, format: 'notes' });
    const facts = { format: 'notes', virtualSize: 512, blockSize: null, differencing: link !== undefined };
    return plainInfo({ ...facts, contentId, parent: link ?? null });
  }

  map(_guestOffset: number, length: number): Mapping {
    if (this.note.parent !== undefined) return { kind: 'absent', length };
    return { kind: 'data', storage: this.storage, fileOffset: 512, length, writable: false };
  }
}

class StrictNote extends NoteImage {
  judgeParent({ contentId }: Pick<ImageInfo, 'contentId'>) {
    return contentId === this.note.parent?.content ? 'same' : 'other';
  }
}

describe.each([
  ['the default verdict', NoteImage],
  ['a verdict of the format', StrictNote],
])('parents by several names and a content ID: %s', (_title, Kind) => {
  const notes = defineFormat({
    name: 'notes',
    title: 'Notes',
    probe: ({ head }) => ({ match: head[0] === 0x7b ? 'yes' : 'no', reason: 'its first letter' }),
    async open(files) {
      const header = new Uint8Array(512);
      await mainFile(files).read(0, header);
      return new Kind(mainFile(files), JSON.parse(new TextDecoder().decode(header).replaceAll('\0', '')));
    },
  });
  const registry = new Registry([...FORMATS, notes]);

  async function put(provider: MemoryProvider, name: string, note: Note, byte = 0): Promise<void> {
    const bytes = new Uint8Array(1024).fill(byte, 512);
    bytes.fill(0, 0, 512);
    bytes.set(new TextEncoder().encode(JSON.stringify(note)));
    await (await provider.create(name)).write(0, bytes);
  }

  async function family(parents: Readonly<Record<string, string>>, names: readonly string[]): Promise<MemoryProvider> {
    const provider = new MemoryProvider();
    for (const [number, [name, content]] of Object.entries(parents).entries()) {
      await put(provider, name, { content }, number + 1);
    }
    await put(provider, '/box/child', { content: 'c', parent: { names, content: 'a' } });
    return provider;
  }

  const open = (provider: MemoryProvider, more = {}) =>
    Disk.open({ provider, name: '/box/child' }, { allow: ['/'], registry, ...more });
  const custom = Kind === StrictNote;

  it('the first name that leads to an image is taken', async () => {
    const provider = await family({ '/box/one': 'a', '/far/two': 'a' }, ['gone', '/far/two', 'one']);
    await using disk = await open(provider, { linkage: 'strict' });
    expect(disk.images.map(({ name }) => name)).toEqual(['/far/two', '/box/child']);
    expect(await firstByte(disk)).toBe(2);
    const report = await inspect({ provider, name: '/box/child' }, { registry });
    expect(report).toMatchObject({ parentName: 'gone', parentFormat: 'notes', parentUuid: null });
    expect(report.parent).toMatchObject({ names: ['gone', '/far/two', 'one'], contentId: 'a' });
  });

  it('a name that the gate refuses gives way to the next', async () => {
    const provider = await family({ '/far/one': 'a', '/box/two': 'a' }, ['/far/one', 'two']);
    await using disk = await open(provider, { allow: ['same-directory'] });
    expect(disk.images[0]?.name).toBe('/box/two');
    await expect(open(provider, { allow: 'none' })).rejects.toMatchObject({ kind: 'denied' });
  });

  it('one with another content is passed over where the format says that it is another image', async () => {
    const provider = await family({ '/box/one': 'b', '/box/two': 'a' }, ['one', 'two']);
    const disk = await open(provider);
    expect(disk.images[0]?.name).toBe(custom ? '/box/two' : '/box/one');
    expect(disk.warnings.length).toBe(custom ? 0 : 1);
    await disk.close();
  });

  it('one that was written since follows the policy for links', async () => {
    const provider = await family({ '/box/one': 'b' }, ['one']);
    const mismatch = { kind: 'corrupt', context: { field: 'parent content ID', expected: 'a', found: 'b (/box/one)' } };
    await expect(open(provider, { linkage: 'strict' })).rejects.toMatchObject(mismatch);
    const lax = open(provider, { linkage: 'warn' });
    if (custom) await expect(lax).rejects.toMatchObject(mismatch);
    else {
      await using disk = await lax;
      expect(disk.warnings.join()).toContain('/box/one was modified after /box/child was created from it');
    }
    await using disk = await open(provider, { linkage: 'off' });
    expect(disk.warnings).toEqual([]);
  });

  it('a new child is given the content ID and the time of the parent', async () => {
    const provider = await family({ '/box/one': 'b' }, []);
    const seen: unknown[] = [];
    const upper = LINKED[0]?.upper;
    const spy = FORMATS.map((one): Format => {
      const { create } = one;
      if (one !== upper || create === undefined) return one;
      return {
        ...one,
        create: (files, options) => {
          seen.push(options.parent);
          return create.call(one, files, options);
        },
      };
    });
    const how = {
      format: upper?.name,
      parent: { provider, name: '/box/one' },
      registry: new Registry([...spy, notes]),
    };
    await createImage({ provider, name: '/box/new' }, how);
    const link = { name: '/box/one', format: 'notes', contentId: 'b', modifiedMs: expect.any(Number) };
    expect(seen).toEqual([expect.objectContaining(link)]);
  });

  it('nothing is taken where no name leads anywhere', async () => {
    const provider = await family({}, ['one', 'two']);
    const refusal = {
      kind: 'not-found',
      message: expect.stringContaining('/box/one, /box/two'),
      context: { field: 'parent' },
    };
    await expect(open(provider)).rejects.toMatchObject(refusal);
  });
});
