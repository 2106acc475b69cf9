/** Locks of a disk, for every kind of storage. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { convert } from '../../operations/convert.ts';
import { createImage } from '../../operations/create.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import type { OpenMode, Storage } from '../../storage/contract.ts';
import { MemoryProvider } from '../../storage/memory.ts';
import type { DiskOpenOptions } from '../options.ts';

const MIB = 1024 ** 2;
const LOCKED = { kind: 'locked', status: 'VERR_SHARING_VIOLATION' };

describe('in memory', () => {
  let provider: MemoryProvider;
  const source = (name: string) => ({ provider, name });
  const open = (mode: OpenMode, options: DiskOpenOptions = {}) => openDisk(source('/disk.vdi'), { mode, ...options });
  beforeEach(async () => {
    provider = new MemoryProvider();
    await createImage(source('/disk.vdi'), { size: 4 * MIB });
  });

  it('one writer or many readers', async () => {
    const writer = await open('write');
    await expect(open('write')).rejects.toMatchObject({ ...LOCKED, context: { path: '/disk.vdi' } });
    await expect(open('read')).rejects.toMatchObject(LOCKED);
    await writer.close();
    const readers = await Promise.all([open('read'), open('read')]);
    await expect(open('write')).rejects.toMatchObject(LOCKED);
    for (const reader of readers) await reader.close();
    await (await open('write')).close();
  });

  it('as many as share it', async () => {
    await using _writer = await open('write', { shareable: true });
    await (await open('write', { shareable: true })).close();
    await (await open('read', { shareable: true })).close();
    await expect(open('write')).rejects.toMatchObject(LOCKED);
    await expect(open('read')).rejects.toMatchObject(LOCKED);
  });

  it('none for who insists on reading, or on nothing', async () => {
    await using _writer = await open('write');
    await using reader = await open('read', { forceShare: true });
    expect(reader.warnings.join()).toContain('/disk.vdi is read without a lock');
    await (await open('write', { lock: false })).close();
    await expect(open('write', { forceShare: true })).rejects.toMatchObject({ kind: 'invalid-argument' });
  });

  it('before anything of the image is read for the format', async () => {
    const order: string[] = [];
    class Watched extends MemoryProvider {
      override async open(name: string, mode: OpenMode): Promise<Storage> {
        const storage = await super.open(name, mode);
        if (mode !== 'write') return storage;
        const { lock, read } = storage;
        storage.lock = (...how) => {
          order.push('lock');
          return lock.apply(storage, how);
        };
        storage.read = (...how) => {
          order.push('read');
          return read.apply(storage, how);
        };
        return storage;
      }
    }
    const watched = { provider: new Watched(), name: '/disk.vdi' };
    await createImage(watched, { size: MIB });
    await (await openDisk(watched, { mode: 'write' })).close();
    expect(order.slice(0, 2)).toEqual(['lock', 'read']);
  });

  it('shared ones for parents', async () => {
    await createImage(source('/diff.vdi'), { parent: source('/disk.vdi') });
    const allow = ['same-directory'];
    const child = await openDisk(source('/diff.vdi'), { mode: 'write', allow });
    await (await open('read')).close();
    await expect(open('write')).rejects.toMatchObject(LOCKED);
    await child.close();
    const parent = await open('write');
    await expect(openDisk(source('/diff.vdi'), { allow })).rejects.toMatchObject({
      ...LOCKED,
      context: { path: '/disk.vdi' },
    });
    await expect(openDisk(source('/diff.vdi'), { parent: source('/disk.vdi') })).rejects.toMatchObject(LOCKED);
    await expect(createImage(source('/other.vdi'), { parent: source('/disk.vdi') })).rejects.toMatchObject(LOCKED);
    await parent.close();
    await (await openDisk(source('/diff.vdi'), { allow })).close();
  });

  it('none on neighbours that are looked at for a parent', async () => {
    await createImage(source('/diff.vdi'), { parent: source('/disk.vdi') });
    await createImage(source('/a-neighbour.vdi'), { size: MIB });
    const neighbour = await openDisk(source('/a-neighbour.vdi'), { mode: 'write' });
    await (await openDisk(source('/diff.vdi'), { allow: ['same-directory'] })).close();
    await neighbour.close();
  });

  it('none for a report, which tells of them', async () => {
    expect((await inspect(source('/disk.vdi'))).lock).toEqual({ held: 'none', holders: [] });
    await using _writer = await open('write');
    expect((await inspect(source('/disk.vdi'))).lock.held).toBe('exclusive');
    expect((await inspect(source('/disk.vdi'), { lock: false })).lock.held).toBeNull();
  });

  it('given back when opening fails', async () => {
    await createImage(source('/diff.vdi'), { parent: source('/disk.vdi') });
    await expect(openDisk(source('/diff.vdi'), { mode: 'write' })).rejects.toMatchObject({ kind: 'denied' });
    expect((await inspect(source('/diff.vdi'))).lock.held).toBe('none');
  });

  it('that do not keep an image from being converted over itself', async () => {
    await convert(source('/disk.vdi'), source('/disk.vdi'), { force: true, comment: 'new' });
    expect(await inspect(source('/disk.vdi'))).toMatchObject({ comment: 'new', lock: { held: 'none' } });
    await expect(convert(source('/disk.vdi'), source('/disk.vdi'), { into: true })).rejects.toMatchObject({
      kind: 'invalid-argument',
    });
  });
});

describe('with lock files only', () => {
  let image: string;
  beforeEach(async () => {
    vi.stubEnv('VDKIT_NO_NATIVE', '1');
    image = join(await mkdtemp(join(tmpdir(), 'vdkit-locking-')), 'disk.vdi');
    await createImage(image, { size: 4 * MIB });
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(join(image, '..'), { recursive: true, force: true });
  });

  it('one writer or many readers', async () => {
    const writer = await openDisk(image, { mode: 'write' });
    await expect(openDisk(image)).rejects.toMatchObject(LOCKED);
    expect((await inspect(image)).lock).toMatchObject({ held: 'exclusive', holders: [{ pid: process.pid }] });
    await writer.write(0, new Uint8Array(512).fill(1));
    await writer.close();
    await using _reader = await openDisk(image);
    await expect(openDisk(image, { mode: 'write' })).rejects.toMatchObject(LOCKED);
    await (await openDisk(image)).close();
  });

  it('content is moved around only by who declines locks', async () => {
    const careful = await openDisk(image, { mode: 'write' });
    for (const move of [() => careful.compact(), () => careful.resize(8 * MIB)]) {
      await expect(move()).rejects.toMatchObject({
        kind: 'unsupported',
        hint: expect.stringContaining('--no-lock'),
      });
    }
    await careful.close();
    await using disk = await openDisk(image, { mode: 'write', lock: false });
    await disk.compact();
    await disk.resize(8 * MIB);
    expect(disk.size).toBe(8 * MIB);
  });
});
