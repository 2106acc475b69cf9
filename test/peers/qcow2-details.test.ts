/** Further facts of QCOW2 images made by QEMU, as `qemu-img info` states them. */
import { mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { HEADER } from '../../src/formats/qcow2/layout.ts';
import { inspect } from '../../src/index.ts';
import { describeWithPeers } from './peers.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-peers-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));
const at = (name: string): string => join(folder, name);

/** The part of the report of `qemu-img` that only QCOW2 has. */
interface Theirs {
  readonly compat: string;
  readonly 'refcount-bits': number;
  readonly 'compression-type': string;
  readonly 'lazy-refcounts'?: boolean;
  readonly 'extended-l2'?: boolean;
  readonly corrupt?: boolean;
}

describeWithPeers(['qemu-img'], 'the details of a QCOW2 image', (qemuImg) => {
  const make = async (options: readonly string[]): Promise<string> => {
    await qemuImg.run('create', '-q', '-f', 'qcow2', ...options, at('a.qcow2'), '4M');
    return at('a.qcow2');
  };

  it.each([
    'compat=0.10',
    'compat=1.1',
    'lazy_refcounts=on,refcount_bits=64',
    'extended_l2=on,refcount_bits=1',
    'compression_type=zstd,cluster_size=4096',
  ])('are those that QEMU states: %s', async (option) => {
    const image = await make(['-o', option]);
    const { 'format-specific': specific } = JSON.parse(await qemuImg.run('info', '--output=json', image));
    const theirs: Theirs = specific.data;
    expect((await inspect(image)).details).toMatchObject({
      compatibility: theirs.compat,
      'refcount bits': theirs['refcount-bits'],
      'compression type': theirs['compression-type'],
      'lazy refcounts': theirs['lazy-refcounts'] ?? false,
      'extended L2': theirs['extended-l2'] ?? false,
      corrupt: theirs.corrupt ?? false,
    });
  });

  it('name feature bits: those of the specification, those that the image gives, and others by number', async () => {
    const image = await make(['-o', 'lazy_refcounts=on']);
    const file = await open(image, 'r+');
    const start = new Uint8Array(HEADER.size);
    await file.read(start, 0, start.length, 0);
    HEADER.put(start, 'incompatible', 3n);
    HEADER.put(start, 'autoclear', (1n << 63n) | 1n);
    await file.write(start, 0, start.length, 0);
    await file.close();
    expect((await inspect(image)).details).toMatchObject({
      corrupt: true,
      'incompatible features': 'dirty, corrupt',
      'compatible features': 'lazy refcounts',
      'autoclear features': 'bitmaps, bit 63',
    });
  });

  it('have the sizes of the tables of snapshots and bitmaps', async () => {
    const image = await make([]);
    expect(Object.keys((await inspect(image)).details ?? {}).filter((key) => key.endsWith('bytes'))).toEqual([]);
    for (const name of ['one', 'two']) await qemuImg.run('snapshot', '-c', name, image);
    await qemuImg.run('bitmap', '--add', '-g', '65536', image, 'dirty');
    expect((await inspect(image)).details).toMatchObject({
      // One L1 entry each, one cluster of bits, and one entry of 24 bytes and the name.
      'snapshot L1 bytes': 2 * 8,
      'bitmap table bytes': 8,
      'bitmap directory bytes': 32,
      'autoclear features': 'bitmaps',
    });
  });

  it.each([
    ['luks', 'luks aes-xts-plain64', ['encrypt.iter-time=10']],
    ['aes', 'aes-cbc-plain64', []],
  ])('of an encrypted image include the cipher: %s', async (method, cipher, more) => {
    const secret = ['--object', 'secret,id=s,data=secret'];
    const options = [`encrypt.format=${method}`, 'encrypt.key-secret=s', ...more].join(',');
    const report = await inspect(await make([...secret, '-o', options]));
    expect(report).toMatchObject({ encryption: cipher, variant: ['dynamic', `encrypted-${method}`] });
  });
});
