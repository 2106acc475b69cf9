/** Locks against QEMU's, both ways: a program with an image open for writing keeps the other out. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, statSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findPeer, PEERS } from '../../scripts/peers.mjs';
import type { DiskOpenOptions } from '../../src/disk/options.ts';
import { convert } from '../../src/operations/convert.ts';
import { createImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { nativeCalls } from '../../src/storage/local/native.ts';
import { buildProgram, type Program } from '../cli/program.ts';
import { describeWithPeers } from './peers.ts';

const MIB = 1024 ** 2;
const FORMATS = ['vdi', 'raw'] as const;
const LOCKED = { kind: 'locked', status: 'VERR_SHARING_VIOLATION' };

let folder: string;
let image: string;
let holders: Holder[];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vdkit-locks-'));
  holders = [];
  image = join(folder, 'disk.vdi');
  await createImage(image, { size: 4 * MIB });
});
afterEach(async () => {
  for (const holder of holders) await holder.stop();
  await rm(folder, { recursive: true, force: true });
});

/** A program that has the image open until it is told to stop. */
interface Holder {
  readonly pid: number;
  stop(): Promise<void>;
}

function hold(child: ChildProcess, stop: () => void): Holder {
  const closed = child.exitCode === null ? once(child, 'close') : Promise.resolve();
  const holder: Holder = {
    pid: child.pid ?? 0,
    async stop() {
      if (child.exitCode === null && child.signalCode === null) stop();
      await closed;
    },
  };
  holders.push(holder);
  return holder;
}

/** Waits until a child's output has the text. */
async function said(child: ChildProcess, text: string): Promise<void> {
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream?.setEncoding('utf8');
  await new Promise<void>((resolve, reject) => {
    const hear = (piece: string): void => {
      output += piece;
      if (output.includes(text)) resolve();
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
    child.on('close', (status) => reject(new Error(`ended with ${status}: ${output}`)));
  });
}

function peerPath(name: string): string {
  const peer = PEERS.find((entry) => entry.name === name);
  return (peer === undefined ? null : findPeer(peer)) ?? name;
}

/** qemu-io with the image open. */
async function qemuHolds(...options: string[]): Promise<Holder> {
  const child = spawn(peerPath('qemu-io'), [...options, image], { stdio: 'pipe' });
  const ready = said(child, '4 MiB');
  child.stdin.write('length\n');
  await ready;
  return hold(child, () => child.stdin.end('quit\n'));
}

const openForWriting = (options: DiskOpenOptions = {}) => openDisk(image, { mode: 'write', format: 'vdi', ...options });

describeWithPeers(['qemu-img', 'qemu-io', 'qemu-nbd'], 'locks', (qemuImg, qemuIo, qemuNbd) => {
  it('can be taken here: the optional package is installed', () => {
    expect(nativeCalls()).not.toBeNull();
  });

  describe('of qemu-io', () => {
    it('keep vdkit from writing and from reading, and the message says why and how to look', async () => {
      const { pid } = await qemuHolds('-f', 'vdi');
      await expect(openForWriting()).rejects.toMatchObject({
        ...LOCKED,
        message: 'Another process has this image open for writing',
        context: { path: image, field: 'lock', found: 'byte 101, permission "write" is in use' },
        hint: expect.stringMatching(`qemu-io \\(process ${pid}\\).*fuser -v .*lslocks`),
      });
      await expect(openDisk(image)).rejects.toMatchObject({
        ...LOCKED,
        hint: expect.stringContaining('--force-share'),
      });
      await expect(convert(image, join(folder, 'copy.raw'))).rejects.toMatchObject(LOCKED);
    });

    it('end with it', async () => {
      const holder = await qemuHolds('-f', 'vdi');
      await expect(openForWriting()).rejects.toMatchObject(LOCKED);
      await holder.stop();
      await (await openForWriting()).close();
    });

    it('for reading keep vdkit from writing only', async () => {
      await qemuHolds('-r', '-f', 'vdi');
      await expect(openForWriting()).rejects.toMatchObject({
        ...LOCKED,
        context: { found: 'byte 201, permission "write" is not shared' },
      });
      await expect(openForWriting({ shareable: true })).rejects.toMatchObject(LOCKED);
      await (await openDisk(image)).close();
    });

    it('do not keep a reader out that insists', async () => {
      await qemuHolds('-f', 'vdi');
      await using disk = await openDisk(image, { forceShare: true });
      expect(disk.warnings.join()).toContain('without a lock');
      await disk.read(0, new Uint8Array(512));
      await convert(image, join(folder, 'copy.raw'), { forceShare: true });
      await expect(openForWriting({ forceShare: true })).rejects.toMatchObject({ kind: 'invalid-argument' });
    });

    it('are no hindrance without locks', async () => {
      await qemuHolds('-f', 'vdi');
      await (await openForWriting({ lock: false })).close();
    });

    it('keep the image from being replaced, or used as a parent', async () => {
      const before = await readFile(image);
      await qemuHolds('-f', 'vdi');
      await expect(createImage(image, { size: MIB, force: true })).rejects.toMatchObject(LOCKED);
      await writeFile(join(folder, 'source.raw'), new Uint8Array(MIB));
      const options = { sourceFormat: 'raw', force: true };
      await expect(convert(join(folder, 'source.raw'), image, options)).rejects.toMatchObject(LOCKED);
      await expect(createImage(join(folder, 'diff.vdi'), { parent: image })).rejects.toMatchObject(LOCKED);
      expect((await readFile(image)).equals(before)).toBe(true);
    });

    it('keep a chain from being opened', async () => {
      const child = join(folder, 'diff.vdi');
      await createImage(child, { parent: image });
      const allow = ['same-directory'];
      await (await openDisk(child, { allow })).close();
      await qemuHolds('-f', 'vdi');
      await expect(openDisk(child, { allow })).rejects.toMatchObject({ ...LOCKED, context: { path: image } });
      await (await openDisk(child, { allow, forceShare: true })).close();
      expect((await inspect(child, { allow, chain: true })).chain?.map(({ lock }) => lock.held)).toEqual([
        'exclusive',
        'none',
      ]);
    });

    it.each([
      { options: ['-f', 'vdi'], held: 'exclusive' },
      { options: ['-r', '-f', 'vdi'], held: 'shared' },
    ])('show in the report: $held', async ({ options, held }) => {
      expect((await inspect(image)).lock).toEqual({ held: 'none', holders: [] });
      const { pid } = await qemuHolds(...options);
      expect((await inspect(image)).lock).toEqual({ held, holders: [{ pid, name: 'qemu-io' }] });
    });

    it('on a raw image let in who shares it', async () => {
      await convert(image, join(folder, 'disk.raw'));
      image = join(folder, 'disk.raw');
      await qemuHolds('-f', 'raw');
      await expect(openDisk(image, { format: 'raw' })).rejects.toMatchObject(LOCKED);
      await (await openDisk(image, { format: 'raw', mode: 'write', shareable: true })).close();
    });
  });

  it('of qemu-nbd keep vdkit from writing', async () => {
    const pidFile = join(folder, 'nbd.pid');
    const socket = join(folder, 'nbd.sock');
    await qemuNbd.run('--fork', '--persistent', '--pid-file', pidFile, '-f', 'vdi', '-k', socket, image);
    const pid = Number(await readFile(pidFile, 'utf8'));
    try {
      await expect(openForWriting()).rejects.toMatchObject({
        ...LOCKED,
        hint: expect.stringContaining(`qemu-nbd (process ${pid})`),
      });
    } finally {
      process.kill(pid);
    }
  });

  describe.each(FORMATS)('of vdkit (%s)', (format) => {
    beforeEach(async () => {
      if (format === 'vdi') return;
      await convert(image, join(folder, 'disk.raw'));
      image = join(folder, 'disk.raw');
    });
    const qemuWrites = () => qemuIo.run('-f', format, '-c', 'write 0 512', image);
    const qemuReads = () => qemuIo.run('-r', '-f', format, '-c', 'read 0 512', image);

    it('for writing keep QEMU from writing', async () => {
      await using disk = await openDisk(image, { mode: 'write', format });
      await disk.write(0, new Uint8Array(512).fill(1));
      await expect(qemuWrites()).rejects.toThrow('Failed to get "write" lock');
      await disk.close();
      await qemuWrites();
    });

    it('for reading keep QEMU from writing, and let it read', async () => {
      await using disk = await openDisk(image, { format });
      await using second = await openDisk(image, { format });
      await expect(qemuWrites()).rejects.toThrow('Failed to get "write" lock');
      await qemuReads();
      await qemuImg.run('convert', '-f', format, '-O', 'raw', image, join(folder, 'copy.raw'));
      expect(second.size).toBe(disk.size);
    });

    it('are not taken by a reader that insists', async () => {
      await using _disk = await openDisk(image, { format, forceShare: true });
      await qemuWrites();
    });
  });

  it('of vdkit for writing keep QEMU from reading an image with tables', async () => {
    await using disk = await openForWriting();
    const copy = join(folder, 'copy.raw');
    await expect(qemuImg.run('convert', '-f', 'vdi', '-O', 'raw', image, copy)).rejects.toThrow(
      'Failed to get shared "write" lock',
    );
    await expect(qemuImg.run('check', '-f', 'vdi', image)).rejects.toThrow('Failed to get shared "write" lock');
    await qemuImg.run('info', '-U', image);
    await disk.close();
    await qemuImg.run('convert', '-f', 'vdi', '-O', 'raw', image, copy);
  });

  it('of vdkit are shared with those who share', async () => {
    await using one = await openForWriting({ shareable: true });
    await using two = await openForWriting({ shareable: true });
    await expect(qemuIo.run('-f', 'vdi', '-c', 'quit', image)).rejects.toThrow('Failed to get shared "write" lock');
    expect(one.size).toBe(two.size);
  });

  it('are on a new image until it has its name', async () => {
    const source = await openDisk(image);
    const target = join(folder, 'new.vdi');
    let tried = 0;
    const watched = {
      label: source.label,
      size: source.size,
      can: source.can,
      blockSize: source.blockSize,
      read: source.read.bind(source),
      write: source.write.bind(source),
      zero: source.zero.bind(source),
      discard: source.discard.bind(source),
      flush: source.flush.bind(source),
      close: source.close.bind(source),
      async extentAt(offset: number, end: number) {
        // The source is looked at while the target is made; what is in it was written under its lock.
        const temporary = (): string => readdirSync(folder).find((name) => name.includes('new.vdi')) ?? 'not there';
        await expect.poll(() => statSync(join(folder, temporary())).size).toBeGreaterThan(0);
        await expect(qemuIo.run('-f', 'raw', '-c', 'write 0 512', join(folder, temporary()))).rejects.toThrow('lock');
        tried++;
        return source.extentAt(offset, end);
      },
    };
    await convert(watched, target);
    await source.close();
    expect(tried).toBeGreaterThan(0);
    await qemuIo.run('-f', 'vdi', '-c', 'write 0 512', target);
  });

  describe('of the command line', () => {
    let program: Program;
    beforeAll(async () => {
      program = await buildProgram();
    });
    afterAll(() => program.remove());
    const vdkit = async (words: readonly string[], environment: Record<string, string> = {}) => {
      const child = spawn(process.execPath, [program.path, ...words], {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...environment },
      });
      const outputs = { stdout: '', stderr: '' };
      child.stdout.on('data', (piece) => (outputs.stdout += piece));
      child.stderr.on('data', (piece) => (outputs.stderr += piece));
      const [status] = await once(child, 'close');
      return { status, ...outputs };
    };

    it('refuse, explain, and can be overruled', async () => {
      await qemuHolds('-f', 'vdi');
      const refused = await vdkit(['map', image]);
      expect(refused).toMatchObject({ status: 1, stdout: '' });
      expect(refused.stderr).toContain('Another process has this image open for writing');
      expect(refused.stderr).toMatch(/hint: .*qemu-io.*fuser -v/);
      for (const option of ['-U', '--force-share', '--no-lock']) {
        expect(await vdkit(['map', option, image])).toMatchObject({ status: 0 });
        expect(await vdkit([option, 'map', image])).toMatchObject({ status: 0 });
      }
      expect((await vdkit(['map', '-U', image])).stderr).toContain('without a lock');
      const info = await vdkit(['info', image]);
      expect(info.stdout).toMatch(/lock: +open for writing \(qemu-io, process \d+\)/);
      expect(JSON.parse((await vdkit(['info', '--json', image])).stdout).lock.held).toBe('exclusive');
    });

    it('are seen without native code, too', async () => {
      await qemuHolds('-f', 'vdi');
      const refused = await vdkit(['map', image], { VDKIT_NO_NATIVE: '1' });
      expect(refused.status).toBe(1);
      expect(refused.stderr).toContain('Another process has this image open for writing');
    });

    it('of a child keep vdkit and QEMU out, and nothing is left of it when it is killed', async () => {
      for (const off of ['', '1']) {
        // A conversion that takes a minute holds the target open.
        const source = join(folder, 'source.raw');
        await writeFile(source, new Uint8Array(4 * MIB).fill(3));
        const rate = ['convert', source, image, '--into', '-f', 'raw', '-t', 'vdi', '--rate-limit', '64K'];
        const child = spawn(process.execPath, [program.path, ...rate, '--progress', 'json'], {
          stdio: ['ignore', 'pipe', 'pipe'],
          env: { ...process.env, VDKIT_NO_NATIVE: off },
        });
        await said(child, '"convert"');
        await expect(openForWriting()).rejects.toMatchObject({
          ...LOCKED,
          hint: expect.stringContaining(`process ${child.pid}`),
        });
        if (off === '') {
          await expect(qemuIo.run('-f', 'vdi', '-c', 'write 0 512', image)).rejects.toThrow('lock');
        }
        child.kill('SIGKILL');
        await once(child, 'close');
        await (await openForWriting()).close();
      }
    });
  });
});
