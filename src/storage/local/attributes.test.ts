import * as fs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { convert, createCache, createImage, Disk } from '../../index.ts';
import { ACCESS_LIST, DEFAULT_ACCESS_LIST, limitedMode, parseAccessList, surelyAllowed } from '../attributes.ts';
import type { FileAttributes } from '../contract.ts';
import { nativeCalls } from './native.ts';
import { localFiles } from './provider.ts';

const files = localFiles();
const isRoot = process.getuid?.() === 0;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-attributes-'));
});
afterEach(() => {
  delete process.env['VDKIT_NO_NATIVE'];
  rmSync(folder, { recursive: true, force: true });
});
const path = (name: string): string => join(folder, name);

/** Entries of an access list: tag, rights, id. */
function accessList(entries: readonly (readonly [tag: number, rights: number, id?: number])[]): Uint8Array {
  const bytes = new Uint8Array(4 + 8 * entries.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 2, true);
  for (const [index, [tag, rights, id = 0xffff_ffff]] of entries.entries()) {
    view.setUint16(4 + 8 * index, tag, true);
    view.setUint16(6 + 8 * index, rights, true);
    view.setUint32(8 + 8 * index, id, true);
  }
  return bytes;
}

/** `u::rw- u:1234:<rights> g::<group> m::rw- o::---`: the group bits of the mode are those of the mask. */
const listFor = (rights: number, group = 0): Uint8Array =>
  accessList([
    [0x01, 6],
    [0x02, rights, 1234],
    [0x04, group],
    [0x10, 6],
    [0x20, 0],
  ]); // prettier-ignore

function setAttribute(name: string, attribute: string, value: Uint8Array): void {
  const fd = fs.openSync(name, 'r');
  try {
    nativeCalls()?.setAttribute(fd, attribute, value);
  } finally {
    fs.closeSync(fd);
  }
}

async function attributesOf(name: string): Promise<FileAttributes> {
  const storage = await files.open(name, 'read');
  try {
    const found = await storage.attributes?.();
    if (found === undefined || found === null) throw new Error('a local file has attributes');
    return found;
  } finally {
    await storage.close();
  }
}

const mode = (name: string): number => fs.statSync(name).mode & 0o777;

/** False if this file system or machine has no extended attributes. */
function hasExtended(): boolean {
  fs.writeFileSync(path('try'), '');
  try {
    setAttribute(path('try'), 'user.try', Uint8Array.of(1));
    setAttribute(path('try'), ACCESS_LIST, listFor(4));
    return nativeCalls() !== null;
  } catch {
    return false;
  } finally {
    fs.rmSync(path('try'));
  }
}

describe('a replaced file', () => {
  it('keeps owner, group, mode, access list and extended attributes', async (context) => {
    if (!isRoot || !hasExtended()) context.skip('needs root and a file system with extended attributes');
    await createImage(path('a.vdi'), { size: 65_536 });
    fs.chownSync(path('a.vdi'), 1234, 2345);
    fs.chmodSync(path('a.vdi'), 0o640);
    setAttribute(path('a.vdi'), 'user.tag', Uint8Array.of(1, 2));
    setAttribute(path('a.vdi'), ACCESS_LIST, listFor(4));
    const before = await attributesOf(path('a.vdi'));
    const report = await createImage(path('a.vdi'), { size: 131_072, force: true });
    const { owner, group, mode: kept, extended } = await attributesOf(path('a.vdi'));
    expect(report.warnings).toEqual([]);
    expect({ owner, group, mode: kept }).toEqual({ owner: 1234, group: 2345, mode: before.mode });
    expect(extended).toEqual(before.extended);
    expect(extended?.get(ACCESS_LIST)).toEqual(listFor(4));
  });

  it.each([0o600, 0o640, 0o660, 0o444, 0o664])('keeps mode %o, also without native calls', async (wanted) => {
    for (const without of ['', '1']) {
      process.env['VDKIT_NO_NATIVE'] = without;
      await createImage(path(`a${without}`), { size: 65_536, format: 'vdi' });
      fs.chmodSync(path(`a${without}`), wanted);
      await createImage(path(`a${without}`), { size: 65_536, format: 'qcow2', force: true, lock: without === '' });
      expect(mode(path(`a${without}`)).toString(8)).toBe(wanted.toString(8));
    }
  });

  it('does not get who may read new files of the directory', async (context) => {
    if (!hasExtended()) context.skip('needs a file system with access lists');
    await createImage(path('a.vdi'), { size: 65_536 });
    fs.chmodSync(path('a.vdi'), 0o660);
    setAttribute(folder, DEFAULT_ACCESS_LIST, listFor(6, 6));
    await createImage(path('a.vdi'), { size: 65_536, force: true });
    expect((await attributesOf(path('a.vdi'))).extended?.has(ACCESS_LIST)).toBe(false);
    expect(mode(path('a.vdi'))).toBe(0o660);
  });

  it('is never more readable than before where owner and group cannot be kept, and says so', async (context) => {
    if (!isRoot || process.seteuid === undefined || process.setegid === undefined) context.skip('needs root');
    fs.chmodSync(folder, 0o777);
    fs.writeFileSync(path('a.vdi'), '');
    fs.chownSync(path('a.vdi'), 1234, 2345);
    fs.chmodSync(path('a.vdi'), 0o664);
    process.setegid?.(4000);
    process.seteuid?.(4000);
    try {
      const { warnings } = await createImage(path('a.vdi'), { size: 65_536, force: true });
      expect(warnings).toEqual([expect.stringMatching(/owner 1234, group 2345, permissions 664 \(now 644\)/)]);
    } finally {
      process.seteuid?.(0);
      process.setegid?.(0);
    }
    expect(await attributesOf(path('a.vdi'))).toMatchObject({ owner: 4000, group: 4000, mode: 0o644 });
  });

  it('is looked at through a handle: a link in its place gets nothing', async () => {
    fs.writeFileSync(path('victim'), '');
    fs.chmodSync(path('victim'), 0o600);
    fs.symlinkSync(path('victim'), path('link'));
    const like = { ...(await attributesOf(path('victim'))), mode: 0o666 };
    await expect(files.publishLike(path('link'), { like })).rejects.toMatchObject({ kind: 'io' });
    await expect(files.publishMode(path('link'))).rejects.toMatchObject({ kind: 'io' });
    fs.linkSync(path('victim'), path('second'));
    await expect(files.publishLike(path('second'), { like })).rejects.toMatchObject({ kind: 'busy' });
    expect(mode(path('victim'))).toBe(0o600);
  });
});

describe('a new file', () => {
  it('is as readable as the directory says, as one made the usual way is', async (context) => {
    if (!hasExtended()) context.skip('needs a file system with access lists');
    setAttribute(folder, DEFAULT_ACCESS_LIST, listFor(4, 4));
    fs.writeFileSync(path('usual'), '');
    await createImage(path('a.vdi'), { size: 65_536 });
    const [usual, made] = [await attributesOf(path('usual')), await attributesOf(path('a.vdi'))];
    expect(made.mode).toBe(usual.mode);
    expect(made.extended).toEqual(usual.extended);
  });
});

describe('a copy of private content', () => {
  it.each(['raw', 'vdi', 'qcow2'])('is as private in format %s, with all its files', async (format) => {
    const disk = await Disk.create(path('a.vdi'), { size: 131_072 });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    fs.chmodSync(path('a.vdi'), 0o600);
    const config = format === 'qcow2' ? { data_file: path('data.raw') } : {};
    await convert(path('a.vdi'), path('b'), { format, config });
    expect(mode(path('b'))).toBe(0o600);
    if (format === 'qcow2') expect(mode(path('data.raw'))).toBe(0o600);
    fs.chmodSync(path('a.vdi'), 0o644);
    await convert(path('a.vdi'), path('c'), { format });
    fs.writeFileSync(path('usual'), '');
    expect(mode(path('c'))).toBe(mode(path('usual')) & 0o644);
  });

  it('is as private as the most private image of the chain, and says what that changes of a replaced file', async () => {
    await createImage(path('a.qcow2'), { size: 131_072 });
    await createImage(path('b.qcow2'), { size: 131_072, parent: path('a.qcow2') });
    fs.chmodSync(path('a.qcow2'), 0o600);
    await createImage(path('old.vdi'), { size: 131_072 });
    fs.chmodSync(path('old.vdi'), 0o644);
    const { warnings } = await convert(path('b.qcow2'), path('old.vdi'), { allow: [folder], force: true });
    expect(mode(path('old.vdi'))).toBe(0o600);
    expect(warnings).toEqual([expect.stringContaining('permissions 644 (now 600)')]);
  });

  it('is a cache, too', async () => {
    await createImage(path('a.vdi'), { size: 131_072 });
    fs.chmodSync(path('a.vdi'), 0o600);
    await using disk = await Disk.open(path('a.vdi'));
    await disk.cache.create(path('c.vci'), { size: 64 * 1024 ** 2 });
    expect(mode(path('c.vci'))).toBe(0o600);
    await expect(disk.cache.create(path('a.vdi'), { size: 64 * 1024 ** 2, force: true })).rejects.toThrow();
  });

  it('replaces no file of the disk as its cache', async () => {
    await createImage(path('a.vdi'), { size: 131_072 });
    fs.linkSync(path('a.vdi'), path('c.vci'));
    await using disk = await Disk.open(path('a.vdi'), { lock: false });
    const wanted = { size: 64 * 1024 ** 2, force: true };
    await expect(disk.cache.create(path('c.vci'), wanted)).rejects.toMatchObject({ kind: 'invalid-argument' });
    await createCache(path('d.vci'), { size: 64 * 1024 ** 2 });
  });
});

describe('what a failed target leaves', () => {
  it('is nothing, of none of its files', async () => {
    await createImage(path('a.vdi'), { size: 4 * 1024 ** 2 });
    const stop = new AbortController();
    const converting = convert(path('a.vdi'), path('b.qcow2'), {
      config: { data_file: path('b.raw') },
      signal: stop.signal,
      onProgress: () => stop.abort(),
    });
    await expect(converting).rejects.toMatchObject({ kind: 'aborted' });
    expect(fs.readdirSync(folder)).toEqual(['a.vdi']);
  });
});

describe('rights', () => {
  const file = (wanted: number, list?: Uint8Array): FileAttributes => ({
    owner: 1,
    group: 2,
    mode: wanted,
    accessedMs: 0,
    modifiedMs: 0,
    extended: list === undefined ? new Map() : new Map([[ACCESS_LIST, list]]),
  });

  it('of a group go to another only where everybody has them', () => {
    expect(surelyAllowed(file(0o664), 2)).toEqual({ group: 6, other: 4 });
    expect(surelyAllowed(file(0o664), 3)).toEqual({ group: 4, other: 4 });
    expect(surelyAllowed(file(0o660), 3)).toEqual({ group: 0, other: 0 });
    // Members of the group may do less than strangers here.
    expect(surelyAllowed(file(0o604), 3)).toEqual({ group: 0, other: 0 });
  });

  it('of the mask are not those of the group, and who is named may do less', () => {
    expect(surelyAllowed(file(0o660, listFor(6)), 2)).toEqual({ group: 0, other: 0 });
    expect(surelyAllowed(file(0o660, listFor(6, 4)), 2)).toEqual({ group: 4, other: 0 });
    expect(surelyAllowed(file(0o660, listFor(0, 4)), 2)).toEqual({ group: 0, other: 0 });
    expect(surelyAllowed(file(0o644, Uint8Array.of(9, 9)), 2)).toEqual({ group: 0, other: 0 });
  });

  it('are those that all sources grant; the owner keeps theirs', () => {
    expect(limitedMode(0o664, 2, [])).toBe(0o664);
    expect(limitedMode(0o664, 2, [file(0o640), file(0o644)])).toBe(0o640);
    expect(limitedMode(0o664, 3, [file(0o640)])).toBe(0o600);
  });

  it('are read of access lists only where those are whole', () => {
    expect(parseAccessList(listFor(4, 2))).toEqual({ owner: 6, group: 2, mask: 6, other: 0, named: [4] });
    expect(parseAccessList(listFor(4).subarray(0, 20))).toBeNull();
    expect(parseAccessList(new Uint8Array(0))).toBeNull();
  });
});
