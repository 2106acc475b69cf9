/**
 * Every command in every kind of place: file systems, devices, folders and names. Mounts need root; where they are not
 * allowed the tests are reported as skipped.
 */
import {
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/table.ts';
import { createImage, Disk } from '../../src/index.ts';
import { decodeName, encodeName } from '../../src/storage/local/names.ts';
import { runCli } from '../cli/run-cli.ts';
import {
  FILE_SYSTEMS,
  loopDevice,
  mayLoop,
  mayMount,
  obstacleTo,
  type Place,
  plain,
  readOnlyView,
  works,
} from './mounts.ts';
import { expectRemedy, type Naming, sampleBytes, take, takeTour, tour } from './tour.ts';

const MOUNTS = mayMount();
const LOOPS = mayLoop();
const GIB = 1024 ** 3;
/** Names are the same everywhere, so their tours are taken where nothing waits for a medium. */
const FAST = works('test', '-w', '/dev/shm') ? '/dev/shm' : tmpdir();

const places: Place[] = [];
afterEach(() => {
  for (const place of places.splice(0).reverse()) place.remove();
});
function use<Kind extends Place>(place: Kind): Kind {
  places.push(place);
  return place;
}

/** Plain names in a folder. */
function within(folder: string): Naming {
  return (base, extension) => join(folder, `${base}.${extension}`);
}

async function tourOf(folder: string, name: Naming = within(folder)): Promise<void> {
  mkdirSync(encodeName(join(folder, 'copies')));
  await takeTour(folder, name);
}

it('the tour takes every command that there is', () => {
  const taken = new Set(tour(within('/folder'), '/copies').map(([command]) => command));
  expect(COMMANDS.map(({ name }) => name).filter((name) => !taken.has(name))).toEqual([]);
});

describe('file systems', () => {
  it('a plain folder', () => tourOf(use(plain()).folder));
  it.runIf(works('test', '-w', '/dev/shm'))('/dev/shm', () => tourOf(use(plain('/dev/shm')).folder));

  for (const [name, { make }] of Object.entries(FILE_SYSTEMS)) {
    const obstacle = obstacleTo(name as keyof typeof FILE_SYSTEMS);
    it.skipIf(obstacle !== '')(`${name}${obstacle}`, () => tourOf(use(make()).folder));
  }

  const noFat = obstacleTo('FAT');
  it.skipIf(noFat !== '')(`FAT holds no file of 4 GiB, and nothing is left${noFat}`, async () => {
    const { folder } = use(FILE_SYSTEMS.FAT.make());
    for (const file of ['large.raw', 'large.vdi']) {
      const name = join(folder, file);
      const { status, stderr } = await take(['create', name, String(5 * GIB), '--variant', 'fixed']);
      expect(status).toBe(1);
      expect(stderr).toContain(name);
      expect(stderr).not.toMatch(/check the file/i);
    }
    expect(readdirSync(folder)).toEqual([]);
  });

  it.skipIf(!MOUNTS)('a full one names the target, and nothing is left', async () => {
    const { folder } = use(FILE_SYSTEMS.ext4.make());
    const name = join(folder, 'large.vdi');
    const { status, stderr } = await take(['create', name, '1G', '--variant', 'fixed']);
    expect(status).toBe(1);
    expect(stderr).toContain(`${name}: There is no`);
    expect(readdirSync(folder).filter((one) => one !== 'lost+found')).toEqual([]);
  });
});

describe.skipIf(!MOUNTS)(`a read-only mount${MOUNTS ? '' : ' (mounting is not allowed here)'}`, () => {
  /** Commands that change nothing. */
  const READING = new Set(['info', 'map', 'compare', 'check', 'measure', 'formats', 'filters', 'completion', 'help']);

  it('is read as ever, and every other command says why not and leaves nothing', async () => {
    const { folder } = use(plain());
    const name = within(folder);
    mkdirSync(join(folder, 'copies'));
    writeFileSync(name('sample', 'raw'), sampleBytes());
    for (const [base, extension] of [
      ['base', 'qcow2'],
      ['old', 'vdi'],
      ['made', 'vdi'],
    ] as const) {
      await createImage(name(base, extension), { size: 1024 * 1024 });
    }
    await createImage(name('child', 'qcow2'), { parent: name('base', 'qcow2') });
    await createImage(name('young', 'vdi'), { parent: name('old', 'vdi') });
    for (const one of ['child', 'base']) copyFileSync(name(one, 'qcow2'), join(folder, `${one}.copy`));
    const before = readdirSync(folder).sort();
    const view = use(readOnlyView(folder));
    const seen = within(view.folder);
    for (const words of tour(seen, join(view.folder, 'copies'))) {
      const [command = ''] = words;
      const { status, stderr } = await runCli(words);
      const lists = words[1] === 'list' || (command === 'cache' && words[1] !== 'create');
      if (READING.has(command) || lists) continue;
      expect({ words, status, stderr }).not.toMatchObject({ status: 0 });
      expectRemedy(stderr);
      expect(stderr).toMatch(/read-only|not writable|exists|no such/i);
    }
    expect(readdirSync(folder).sort()).toEqual(before);
    expect((await take(['info', seen('child', 'qcow2')])).status).toBe(0);
    expect((await take(['convert', seen('child', 'qcow2'), join(folder, 'out.vdi')])).status).toBe(0);
  });
});

describe('names', () => {
  const NAMES: Readonly<Record<string, Naming>> = {
    spaces: (base, extension) => ` ${base} of mine .${extension}`,
    colons: (base, extension) => `c:${base}:2.${extension}`,
    'a scheme': (base, extension) => `http:${base}.${extension}`,
    'leading dashes': (base, extension) => `--${base}.${extension}`,
    'characters of several bytes': (base, extension) => `${base}-ä\u{1f4be}.${extension}`,
    '255 bytes': (base, extension) => `${base}${'n'.repeat(255 - base.length - extension.length - 1)}.${extension}`,
  };

  it.each(Object.entries(NAMES))('with %s', async (_, name) => {
    const { folder } = use(plain(FAST));
    await tourOf(folder, (base, extension) => join(folder, name(base, extension)));
  });

  it('with newlines, which QCOW2 cannot store', async () => {
    const { folder } = use(plain(FAST));
    const name = (base: string, extension: string): string => join(folder, `${base}\n2.${extension}`);
    expect((await take(['create', name('base', 'qcow2'), '1M'])).status).toBe(0);
    const { status, stderr } = await take(['create', name('child', 'qcow2'), '--parent', name('base', 'qcow2')]);
    expect(status).toBe(1);
    expect(stderr).toContain('control characters');
    expect(readdirSync(folder)).toEqual(['base\n2.qcow2']);
    for (const words of [
      ['convert', name('base', 'qcow2'), name('old', 'vdi')],
      ['create', name('young', 'vdi'), '--parent', name('old', 'vdi')],
      ['map', name('young', 'vdi')],
      ['rename', name('base', 'qcow2'), name('moved', 'qcow2')],
      ['delete', name('moved', 'qcow2')],
    ]) {
      expect((await take(words)).status, words.join(' ')).toBe(0);
    }
  });

  it('a folder with newlines in its name', async () => {
    const outer = use(plain(FAST));
    const folder = join(outer.folder, 'two\nlines');
    mkdirSync(folder);
    await tourOf(folder);
  });

  it.runIf(process.platform === 'linux')('in a folder whose name is not UTF-8', async () => {
    const outer = use(plain(FAST));
    const folder = join(outer.folder, decodeName(Buffer.from('d\xff\xfe', 'latin1')));
    mkdirSync(encodeName(folder));
    mkdirSync(encodeName(join(folder, 'copies')));
    const name = within(folder);
    writeFileSync(encodeName(name('sample', 'raw')), sampleBytes());
    for (const words of tour(name, join(folder, 'copies'))) {
      const { status, stderr } = await take(words);
      expect(status, `${words.join(' ')}: ${stderr}`).toBe(0);
    }
  });

  it('deep folders', async () => {
    const { folder } = use(plain(FAST));
    const deep = join(folder, ...Array.from({ length: 30 }, () => 'a-folder-with-a-name-of-40-characters-01'));
    mkdirSync(deep, { recursive: true });
    await tourOf(deep);
  });

  it('a folder behind a link', async () => {
    const { folder } = use(plain(FAST));
    mkdirSync(join(folder, 'real'));
    symlinkSync('real', join(folder, 'link'));
    await tourOf(join(folder, 'link'));
  });
});

describe('chains', () => {
  it('whose images have equal base names are copied into one folder', async () => {
    const { folder } = use(plain());
    for (const name of ['a', 'b', 'copies']) mkdirSync(join(folder, name));
    const [base, child] = [join(folder, 'a', 'disk.vdi'), join(folder, 'b', 'disk.vdi')];
    await createImage(base, { size: 65_536 });
    await createImage(child, { parent: base });
    const { status } = await take(['copy', child, join(folder, 'copies'), '--parent', base]);
    expect(status).toBe(0);
    expect(readdirSync(join(folder, 'copies')).sort()).toEqual(['disk-1.vdi', 'disk.vdi']);
    await using disk = await Disk.open(join(folder, 'copies', 'disk.vdi'), { allow: ['same-directory'] });
    expect(disk.images).toHaveLength(2);
  });

  it('two overlays of one base are written one into the other', async () => {
    const { folder } = use(plain());
    const name = within(folder);
    writeFileSync(name('base', 'raw'), new Uint8Array(65_536));
    for (const one of ['a', 'b']) {
      const image = name(one, 'qcow2');
      expect((await take(['create', image, '--parent', name('base', 'raw'), '--parent-format', 'raw'])).status).toBe(0);
    }
    writeFileSync(name('source', 'raw'), new Uint8Array(65_536).fill(9));
    expect((await take(['convert', name('source', 'raw'), name('a', 'qcow2'), '--into'])).status).toBe(0);
    expect((await take(['convert', name('a', 'qcow2'), name('b', 'qcow2'), '--into'])).status).toBe(0);
    expect((await take(['compare', name('a', 'qcow2'), name('b', 'qcow2')])).status).toBe(0);
    expect(readFileSync(name('base', 'raw')).every((byte) => byte === 0)).toBe(true);
  });

  it('a relative link is not moved to where it would lead nowhere', async () => {
    const { folder } = use(plain());
    mkdirSync(join(folder, 'below'));
    await createImage(join(folder, 'target.vdi'), { size: 65_536 });
    symlinkSync('target.vdi', join(folder, 'link.vdi'));
    const { status, stderr } = await take(['rename', join(folder, 'link.vdi'), join(folder, 'below', 'link.vdi')]);
    expect(status).toBe(1);
    expect(stderr).toMatch(/^error: .*link/m);
    expect(readdirSync(folder).sort()).toEqual(['below', 'link.vdi', 'target.vdi']);
  });
});

describe.skipIf(!LOOPS)(`block devices${LOOPS ? '' : ' (loop devices are not allowed here)'}`, () => {
  let place: Place & { readonly device: string };
  beforeEach(() => {
    place = use(loopDevice(2 * 1024 * 1024));
    writeFileSync(join(place.folder, 'sample.raw'), sampleBytes());
  });

  it('are targets and sources, after one refusal that names all that is needed', async () => {
    const { device, folder } = place;
    const [raw, back] = [join(folder, 'sample.raw'), join(folder, 'back.qcow2')];
    for (const words of [
      ['convert', raw, device],
      ['convert', raw, device, '--force'],
      ['convert', raw, device, '--to', 'raw'],
      ['create', device, '1M'],
      ['copy', raw, device],
    ]) {
      const { status, stderr } = await runCli(words);
      expect({ words, status }).not.toMatchObject({ status: 0 });
      expect(stderr).toContain('--into --to raw');
    }
    expect((await take(['convert', raw, device, '--into', '--to', 'raw'])).status).toBe(0);
    for (const words of [
      ['info', device],
      ['map', device],
      ['convert', device, back],
    ]) {
      expect({ words, ...(await take(words)) }).toMatchObject({ status: 0 });
    }
    expect((await take(['compare', back, device])).status).toBe(0);
    expect(Buffer.from(readFileSync(device).subarray(0, 1024 * 1024)).equals(sampleBytes())).toBe(true);
  });

  it('hold images, which are changed in place but never renamed, deleted or made shorter', async () => {
    const { device, folder } = place;
    const image = join(folder, 'image.qcow2');
    await createImage(image, { size: 1024 * 1024 });
    expect((await take(['convert', image, device, '--format', 'raw', '--into', '--to', 'raw'])).status).toBe(0);
    const child = join(folder, 'child.qcow2');
    for (const words of [
      ['info', device],
      ['check', device],
      ['resize', device, '2M'],
      ['snapshot', 'create', device, 'one'],
      ['bitmap', 'add', device, 'one'],
      ['create', child, '--parent', device],
      ['map', child, '--allow', device],
      ['convert', child, join(folder, 'flat.vdi'), '--allow', device],
    ]) {
      expect({ words, ...(await take(words)) }).toMatchObject({ status: 0 });
    }
    for (const words of [
      ['map', child, '--allow', '/dev'],
      ['compact', device],
      ['delete', device],
      ['delete', device, '--force'],
      ['rename', device, `${device}-other`],
      ['copy', '--move', device, join(folder, 'moved.qcow2')],
    ]) {
      expect({ words, ...(await take(words)) }).toMatchObject({ status: 1 });
      expect(statSync(device).isBlockDevice()).toBe(true);
    }
  });
});

it('leaves no mount and no device behind', () => {
  rmSync(join('/tmp', 'vdkit-place-none'), { force: true });
  expect(readFileSync('/proc/self/mounts', 'utf8')).not.toContain('vdkit-place-');
});
