import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';
import * as net from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { stageTarget } from '../staging.ts';
import { localFiles } from './provider.ts';
import { isAtHand } from './quick-writes.ts';

const files = localFiles();
let directory: string;
const path = (name: string): string => join(directory, name);

beforeEach(() => {
  directory = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), 'vdkit-provider-')));
});
afterEach(() => {
  vi.unstubAllEnvs();
  fs.rmSync(directory, { recursive: true, force: true });
});

const permissions = (name: string): number => fs.statSync(name).mode & 0o777;

describe('open', () => {
  it.each(['read', 'write'] as const)('does not hang at a FIFO, and says what it is (%s)', async (mode) => {
    execFileSync('mkfifo', [path('pipe')]);
    await expect(files.open(path('pipe'), mode)).rejects.toMatchObject({
      kind: 'unsupported',
      message: 'This is a FIFO, not an image',
      context: { path: path('pipe') },
    });
  });

  it('refuses a socket', async () => {
    const server = net.createServer().listen(path('socket'));
    await new Promise((resolve) => server.once('listening', resolve));
    await expect(files.open(path('socket'), 'read')).rejects.toMatchObject({
      kind: 'unsupported',
      message: 'This is a socket, not an image',
    });
    server.close();
  });

  it.each([
    ['read', '/dev/null', 'a character device'],
    ['read', '/', 'a directory'],
    ['write', '/', 'a directory'],
  ] as const)('refuses to %s %s', async (mode, name, found) => {
    await expect(files.open(name, mode)).rejects.toMatchObject({
      kind: 'unsupported',
      message: `This is ${found}, not an image`,
      hint: expect.stringContaining('Name a file'),
    });
  });

  it('explains names that cannot be', async () => {
    await expect(files.open(path('a\0b'), 'read')).rejects.toMatchObject({ kind: 'invalid-argument' });
    await expect(files.open(path('a'.repeat(300)), 'read')).rejects.toMatchObject({ kind: 'invalid-argument' });
    fs.writeFileSync(path('file'), '');
    await expect(files.open(path('file/below'), 'read')).rejects.toMatchObject({ kind: 'not-found' });
  });

  it('says so when access is denied', async (context) => {
    if (process.getuid?.() === 0) context.skip('root may read everything');
    fs.writeFileSync(path('file'), '', { mode: 0 });
    await expect(files.open(path('file'), 'read')).rejects.toMatchObject({ kind: 'denied' });
  });
});

describe('create', () => {
  it('makes private files, and publishes them as the umask says', async () => {
    const storage = await files.create(path('new'), { private: true, label: 'target.vdi' });
    expect(permissions(path('new'))).toBe(0o600);
    expect(storage.label).toBe('target.vdi');
    await storage.close();
    fs.writeFileSync(path('usual'), '');
    await files.publishMode(path('new'));
    expect(permissions(path('new'))).toBe(permissions(path('usual')));
  });

  it('reports under the label, and names a directory that is missing', async () => {
    fs.writeFileSync(path('new'), '');
    await expect(files.create(path('new'), { label: 'target.vdi' })).rejects.toMatchObject({
      kind: 'exists',
      context: { path: 'target.vdi' },
    });
    await expect(files.create(path('gone/new'))).rejects.toMatchObject({
      kind: 'not-found',
      context: { path: path('gone') },
    });
  });

  it('does not follow a link to nowhere', async () => {
    fs.symlinkSync(path('elsewhere'), path('link'));
    await expect(files.create(path('link'))).rejects.toMatchObject({ kind: 'exists' });
    expect(fs.existsSync(path('elsewhere'))).toBe(false);
  });
});

describe.each(['', '1'])('rename (VDKIT_NO_NATIVE=%s)', (off) => {
  beforeEach(() => {
    vi.stubEnv('VDKIT_NO_NATIVE', off);
    fs.writeFileSync(path('a'), 'a');
  });

  it('never replaces unless told to', async () => {
    fs.writeFileSync(path('b'), 'b');
    await expect(files.rename(path('a'), path('b'), { replace: false })).rejects.toMatchObject({
      kind: 'exists',
      context: { path: path('b') },
    });
    expect(fs.readFileSync(path('b'), 'utf8')).toBe('b');
    await files.rename(path('a'), path('b'), { replace: true });
    expect(fs.readFileSync(path('b'), 'utf8')).toBe('a');
  });

  it('moves', async () => {
    await files.rename(path('a'), path('c'), { replace: false });
    expect(fs.readdirSync(directory)).toEqual(['c']);
  });

  it('gives a name to one of many at most', async () => {
    const names = Array.from({ length: 8 }, (_, index) => path(`from${index}`));
    for (const name of names) fs.writeFileSync(name, name);
    const results = await Promise.allSettled(names.map((name) => files.rename(name, path('to'), { replace: false })));
    expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    expect(fs.readFileSync(path('to'), 'utf8')).toBe(names[results.findIndex(({ status }) => status === 'fulfilled')]);
  });

  it('names what is missing', async () => {
    await expect(files.rename(path('gone'), path('c'), { replace: false })).rejects.toMatchObject({
      kind: 'not-found',
      context: { path: path('gone') },
    });
  });

  it('publishes a staged file without replacing one that appeared', async () => {
    const target = await stageTarget({ provider: files, name: path('new') }, { force: false });
    const { main } = await target.create();
    const [temporary = ''] = fs.readdirSync(directory).filter((name) => name.startsWith('.new.'));
    expect(permissions(path(temporary))).toBe(0o600);
    await main.close();
    fs.writeFileSync(path('new'), 'other');
    await expect(target.publish()).rejects.toMatchObject({ kind: 'exists', context: { path: path('new') } });
    await target.discard();
    expect(fs.readFileSync(path('new'), 'utf8')).toBe('other');
    expect(fs.readdirSync(directory).sort()).toEqual(['a', 'new']);
  });
});

it('replaces what a link leads to, not the link', async () => {
  fs.mkdirSync(path('data'));
  fs.writeFileSync(path('data/old'), 'old');
  fs.symlinkSync('data/old', path('link'));
  const target = await stageTarget({ provider: files, name: path('link') }, { force: true });
  await (await target.create()).main.close();
  await target.publish();
  expect(fs.readlinkSync(path('link'))).toBe('data/old');
  expect(fs.readFileSync(path('data/old'), 'utf8')).toBe('');
});

describe('names', () => {
  it('follow links only where that is asked for', async () => {
    fs.writeFileSync(path('file'), 'abc');
    fs.symlinkSync('file', path('link'));
    const [file, link] = [await files.lookUp(path('file')), await files.lookUp(path('link'))];
    expect(link).toEqual(file);
    expect(file).toMatchObject({ kind: 'file', size: 3 });
    expect(await files.realName(path('link'))).toBe(path('file'));
    expect(await files.lookUp(path('nothing'))).toBeNull();
    expect(await files.lookUp(path('file/below'))).toBeNull();
    expect(await files.lookUp(directory)).toMatchObject({ kind: 'directory' });
  });

  it('are listed without directories and pipes', async () => {
    fs.writeFileSync(path('file'), '');
    fs.symlinkSync('file', path('link'));
    fs.mkdirSync(path('folder'));
    execFileSync('mkfifo', [path('pipe')]);
    const names: string[] = [];
    for await (const name of files.list(directory)) names.push(name);
    expect(names.sort()).toEqual([path('file'), path('link')]);
    const missing = files.list(path('gone'))[Symbol.asyncIterator]();
    await expect(missing.next()).rejects.toMatchObject({ kind: 'not-found' });
  });

  it.each(['disk.vdi', 'a'.repeat(255), 'ä'.repeat(127), '🖴'.repeat(63)])(
    'have temporary ones that fit',
    async (name) => {
      const temporary = files.temporaryName(path(name));
      expect(dirname(temporary)).toBe(directory);
      expect(basename(temporary)).toMatch(/^\..+\.[0-9a-f]{16}\.vdkit-tmp$/u);
      expect(Buffer.byteLength(basename(temporary))).toBeLessThanOrEqual(255);
      await (await files.create(temporary)).close();
      expect(fs.readdirSync(directory)).toEqual([basename(temporary)]);
    },
  );

  it('are flushed, and their room is counted', async () => {
    await files.syncNames(directory);
    expect(await files.freeSpace(directory)).toBeGreaterThan(0);
    await expect(files.syncNames(path('gone'))).rejects.toMatchObject({ kind: 'not-found' });
    await expect(files.freeSpace(path('gone'))).rejects.toMatchObject({ kind: 'not-found' });
  });
});

describe.each(['', '1'])('block devices (VDKIT_NO_NATIVE=%s)', (off) => {
  it('have a size, and are written inside it', async (context) => {
    vi.stubEnv('VDKIT_NO_NATIVE', off);
    fs.writeFileSync(path('disk'), new Uint8Array(1024 * 1024).fill(7));
    let name = '';
    try {
      name = execFileSync('losetup', ['--find', '--show', path('disk')], { encoding: 'utf8', stdio: 'pipe' }).trim();
    } catch {
      context.skip('no loop devices here');
    }
    try {
      const device = await files.open(name, 'write');
      expect(device.size).toBe(1024 * 1024);
      expect(device.can).toMatchObject({ write: true, resize: false });
      const { key, kind } = await device.identity();
      expect(kind).toBe('device');
      expect(await files.lookUp(name)).toMatchObject({ kind: 'device', key });
      await device.zero(1000, 5000, { punch: true });
      await device.zero(8192, 4096, { punch: false });
      const bytes = new Uint8Array(16384);
      await device.read(0, bytes);
      const zeroes = [...bytes.keys()].filter((at) => bytes[at] === 0);
      expect(zeroes).toEqual([...range(1000, 6000), ...range(8192, 12288)]);
      await expect(device.write(1024 * 1024 - 1, new Uint8Array(2))).rejects.toMatchObject({ kind: 'out-of-bounds' });
      await expect(device.resize(1)).rejects.toMatchObject({ kind: 'unsupported' });
      await device.flush();
      await device.close();
    } finally {
      execFileSync('losetup', ['--detach', name]);
    }
  });
});

function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, index) => start + index);
}

describe('small writes at once', () => {
  it('are for disks of this machine, never for what is not known to be one', async () => {
    expect(await isAtHand('/proc')).toBe(false);
    expect(await isAtHand('/nothing/there')).toBe(false);
  });

  it.runIf(process.platform === 'linux')('are for files in memory', async () => {
    expect(await isAtHand('/dev/shm')).toBe(true);
  });
});

it.each(['', '1'])(
  'directories are made, renamed with all that is in them, and deleted (VDKIT_NO_NATIVE=%s)',
  async (off) => {
    vi.stubEnv('VDKIT_NO_NATIVE', off);
    await files.makeDirectory?.(path('one'));
    await expect(files.makeDirectory?.(path('one'))).rejects.toMatchObject({ kind: 'exists' });
    await (await files.create(path('one/file'))).close();
    await files.makeDirectory?.(path('taken'));
    await expect(files.rename(path('one'), path('taken'), { replace: false })).rejects.toMatchObject({
      kind: 'exists',
    });
    await expect(files.rename(path('none'), path('two'), { replace: false })).rejects.toMatchObject({
      kind: 'not-found',
    });
    await files.rename(path('one'), path('two'), { replace: false });
    expect(fs.readdirSync(directory).sort()).toEqual(['taken', 'two']);
    expect(fs.readdirSync(path('two'))).toEqual(['file']);
    await expect(files.removeDirectory?.(path('two'))).rejects.toMatchObject({ kind: 'exists' });
    await files.remove(path('two/file'));
    await files.removeDirectory?.(path('two'));
    expect(fs.readdirSync(directory)).toEqual(['taken']);
  },
);
