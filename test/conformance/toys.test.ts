/** Images that are not one file: directories and configurations, opened, inspected and checked as all others. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultRegistry } from '../../src/formats/index.ts';
import { checkImage, Disk, detectFormat, inspect, removeImage, renameImage } from '../../src/index.ts';
import { LIMITS } from '../../src/limits.ts';
import type { Source, StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { conformanceCases } from '../../src/testing/conformance.ts';
import { runCli } from '../cli/run-cli.ts';
import { bundle, DESCRIPTOR, net, SERVERS } from '../formats/toys/formats.ts';
import { withToys } from '../formats/toys/registry.ts';
import { TOY_KITS } from './kits.ts';

const PART = 64 * 1024;
const registry = withToys();

async function write(provider: StorageProvider, name: string, bytes: Uint8Array | string): Promise<void> {
  const storage = await provider.create(name);
  await storage.write(0, typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes);
  await storage.close();
}

/** A bundle of two parts, filled with 1 and 2. */
async function makeBundle(provider: StorageProvider, name: string): Promise<Source> {
  await write(provider, `${name}/${DESCRIPTOR}`, 'one.bin\ntwo.bin\n');
  await write(provider, `${name}/one.bin`, new Uint8Array(PART).fill(1));
  await write(provider, `${name}/two.bin`, new Uint8Array(PART).fill(2));
  return { provider, name };
}

async function bytesAt(disk: Disk, offset: number, length: number): Promise<number[]> {
  const bytes = new Uint8Array(length);
  await disk.read(offset, bytes);
  return [...bytes];
}

describe('a directory', () => {
  let provider: MemoryProvider;
  let image: Source;
  beforeEach(async () => {
    provider = new MemoryProvider();
    image = await makeBundle(provider, '/a/disk.toybundle');
  });

  it('is read and written across its parts, without allow', async () => {
    {
      await using disk = await Disk.open(image, { registry, mode: 'write', flushAfterMs: 0 });
      expect(disk.size).toBe(2 * PART);
      expect(await bytesAt(disk, PART - 1, 2)).toEqual([1, 2]);
      await disk.write(PART - 1, Uint8Array.of(7, 8));
    }
    await using disk = await Disk.open(image, { registry });
    expect(await bytesAt(disk, PART - 2, 4)).toEqual([1, 7, 8, 2]);
  });

  it('is detected, and reported with its parts', async () => {
    expect(await detectFormat(image, { registry })).toMatchObject({
      format: 'toy-bundle',
      recognisedBy: `it contains ${DESCRIPTOR}`,
      guessed: false,
    });
    const report = await inspect(image, { registry });
    expect(report).toMatchObject({ format: 'toy-bundle', file: image.name, virtualSize: 2 * PART, warnings: [] });
    expect(report.fileSize).toBe(2 * PART + 'one.bin\ntwo.bin\n'.length);
  });

  it('is checked and repaired', async () => {
    expect(await checkImage(image, { registry })).toMatchObject({ format: 'toy-bundle', clean: true, findings: [] });
    await write(provider, `${image.name}/stray`, 'x');
    const part = await provider.open(`${image.name}/two.bin`, 'write');
    await part.resize(PART - 100);
    await part.close();
    const { clean, findings } = await checkImage(image, { registry });
    expect({ clean, codes: findings.map(({ code }) => code) }).toEqual({ clean: false, codes: ['cut', 'stray'] });
    expect(await checkImage(image, { registry, repair: true })).toMatchObject({ clean: true, repaired: true });
  });

  it('is locked by its parts', async () => {
    await using _disk = await Disk.open(image, { registry, mode: 'write' });
    await expect(Disk.open(image, { registry })).rejects.toMatchObject({ kind: 'locked' });
  });

  it('opens nothing beside it', async () => {
    await write(provider, '/a/secret', new Uint8Array(512));
    const descriptor = await provider.open(`${image.name}/${DESCRIPTOR}`, 'write');
    await descriptor.write(0, new TextEncoder().encode('../secret\n      '));
    await descriptor.close();
    await expect(Disk.open(image, { registry })).rejects.toMatchObject({ kind: 'denied' });
    const again = await provider.open('/a/secret', 'write');
    await expect(again.lock('exclusive')).resolves.toBeUndefined();
    await again.close();
  });

  it('is moved and removed with its files, and nothing beside it', async () => {
    await write(provider, '/a/one.bin', 'x');
    await renameImage(image, '/a/other.toybundle', { registry });
    expect(await provider.lookUp(image.name)).toBeNull();
    await removeImage({ provider, name: '/a/other.toybundle' }, { registry });
    expect(await provider.lookUp('/a/other.toybundle')).toBeNull();
    expect(await provider.lookUp('/a/one.bin')).not.toBeNull();
  });

  it('of a format that names no main file is neither moved nor removed', async () => {
    const { directoryMain: _, ...rest } = bundle;
    const other = defaultRegistry();
    other.register(rest);
    const refusal = { kind: 'unsupported', message: expect.stringContaining('can only be read and written') };
    await expect(removeImage(image, { registry: other })).rejects.toMatchObject(refusal);
    await expect(renameImage(image, '/a/other.toybundle', { registry: other })).rejects.toMatchObject(refusal);
    expect(await provider.lookUp(`${image.name}/one.bin`)).not.toBeNull();
  });

  it('is refused as before where no format takes it', async () => {
    await write(provider, '/b/file', 'x');
    const refusal = { kind: 'unsupported', message: 'This is a directory, not an image' };
    for (const options of [{ registry }, { registry, format: 'vdi' }, {}]) {
      await expect(Disk.open({ provider, name: '/b' }, options)).rejects.toMatchObject(refusal);
    }
    for (const run of [inspect, detectFormat, checkImage]) {
      await expect(run({ provider, name: '/b' }, { registry })).rejects.toMatchObject(refusal);
      await expect(run(image)).rejects.toMatchObject(refusal);
    }
    await expect(checkImage(image, { registry, format: 'vdi' })).rejects.toMatchObject(refusal);
  });

  it('is probed by a bounded number of names', async () => {
    let asked = 0;
    const counting = withToys();
    counting.register({
      ...bundle,
      name: 'counting',
      probeDirectory: ({ names }) => {
        asked = names.length;
        return { match: 'no', reason: 'it only counts' };
      },
    });
    for (let number = 0; number < LIMITS.probeNames + 5; number++) await write(provider, `/many/${number}`, '');
    await expect(detectFormat({ provider, name: '/many' }, { registry: counting })).rejects.toThrow('directory');
    expect(asked).toBe(LIMITS.probeNames);
  });
});

describe('a directory on the disk of the host', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vdkit-toys-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  it('is listed by info, mapped and converted', async () => {
    const name = join(folder, 'disk.toybundle');
    await mkdir(name);
    await writeFile(join(name, DESCRIPTOR), 'one.bin\ntwo.bin\n');
    for (const [at, part] of ['one.bin', 'two.bin'].entries()) {
      await writeFile(join(name, part), new Uint8Array(PART).fill(at + 1));
    }
    const plugin = join(folder, 'VDPluginToys.mjs');
    await writeFile(
      plugin,
      'export const VDPluginLoad = ({ registerFormat }) => registerFormat(globalThis.toyBundle);',
    );
    Object.assign(globalThis, { toyBundle: bundle });
    const run = (...words: string[]) => runCli(['--plugin', plugin, ...words]);
    const info = await run('info', '--json', name);
    expect(info.status, info.stderr).toBe(0);
    expect(JSON.parse(info.stdout)).toMatchObject({ format: 'toy-bundle', virtualSize: 2 * PART, file: name });
    expect(await run('check', name)).toMatchObject({ status: 0 });
    expect(await run('convert', name, join(folder, 'out.raw'))).toMatchObject({ status: 0 });
    expect(await run('compare', name, join(folder, 'out.raw'))).toMatchObject({ status: 0 });
  });
});

describe('a configuration', () => {
  const image = { format: 'toy-net', config: { host: 'server', unit: 3 } };
  beforeEach(async () => {
    const server = new MemoryProvider();
    await write(server, '/3', new Uint8Array(PART).fill(5));
    SERVERS.set('server', server);
  });
  afterEach(() => SERVERS.clear());

  it('is read and written', async () => {
    {
      await using disk = await Disk.open(image, { registry, mode: 'write', flushAfterMs: 0 });
      expect(disk.images).toMatchObject([{ name: 'unit 3 of server', format: 'toy-net' }]);
      await disk.write(0, Uint8Array.of(9));
    }
    await using disk = await Disk.open({ image }, { registry });
    expect(await bytesAt(disk, 0, 2)).toEqual([9, 5]);
  });

  it('is inspected, checked and locked', async () => {
    expect(await inspect(image, { registry })).toMatchObject({ file: 'unit 3 of server', virtualSize: PART });
    expect(await checkImage(image, { registry })).toMatchObject({ format: 'toy-net', clean: true });
    await using _disk = await Disk.open(image, { registry, mode: 'write' });
    await expect(Disk.open(image, { registry })).rejects.toMatchObject({ kind: 'locked' });
  });

  it('must say where it is, to a format that has such images', async () => {
    const bad = { kind: 'invalid-argument' };
    await expect(Disk.open({ format: 'toy-net', config: { host: 'server' } }, { registry })).rejects.toMatchObject(bad);
    await expect(Disk.open({ format: 'vdi', config: {} }, { registry })).rejects.toMatchObject(bad);
    const elsewhere = { format: net.name, config: { host: 'nowhere', unit: 3 } };
    await expect(Disk.open(elsewhere, { registry })).rejects.toMatchObject({ kind: 'not-found' });
    expect(await checkImage(elsewhere, { registry })).toMatchObject({ clean: false });
  });
});

describe.each(TOY_KITS.filter(({ conformance }) => conformance !== undefined))('$format', ({ format, conformance }) => {
  it(`is not created, since ${conformance?.without}`, () => {
    expect(() => conformanceCases({ registry: withToys(), format })).toThrow('cannot be created and written');
  });
});
