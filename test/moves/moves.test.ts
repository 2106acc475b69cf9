/**
 * Every way in which an image gets another place, for images in every place of a chain: afterwards all images of the chain
 * read what they read, have the identities, snapshots and bitmaps they had, and are as private as they were.
 */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  amendImage,
  convert,
  copyChain,
  createImage,
  Disk,
  inspect,
  moveImage,
  renameImage,
  setImage,
} from '../../src/index.ts';
import { localFiles } from '../../src/storage/local/provider.ts';
import { runCli } from '../cli/run-cli.ts';
import { memoryFolder } from '../conformance/memory-folder.ts';
import { oneIn } from '../conformance/random.ts';
import { type Family, KINDS, type Kind, makeFamily, ROLES, type Role, SIZE, stateOf } from './kit.ts';

const provider = localFiles();
const HAS_OTHER = fs.statSync(memoryFolder()).dev !== fs.statSync(tmpdir()).dev;
let folder: string;
let other: string;
beforeEach(() => {
  folder = fs.realpathSync(fs.mkdtempSync(join(memoryFolder(), 'vdkit-moves-')));
  other = fs.mkdtempSync(join(tmpdir(), 'vdkit-moves-'));
  for (const name of ['a', 'b', 'a/sub']) fs.mkdirSync(join(folder, name));
});
afterEach(() => {
  for (const one of [folder, other]) fs.rmSync(one, { recursive: true, force: true });
});

/** A way: the names by which the image is called and where it goes. `elsewhere`: not beside its relatives any more. */
interface Way {
  readonly way: string;
  readonly elsewhere: boolean;
  readonly device?: boolean;
  go(family: Family, from: string): { readonly from: string; readonly to: string };
}

const WAYS: readonly Way[] = [
  { way: 'in its folder', elsewhere: false, go: (_, from) => ({ from, to: join(folder, 'a', 'new.img') }) },
  { way: 'into a folder below', elsewhere: true, go: (_, from) => ({ from, to: join(folder, 'a/sub/new.img') }) },
  { way: 'into another folder', elsewhere: true, go: (_, from) => ({ from, to: join(folder, 'b', 'new.img') }) },
  {
    way: 'through a linked folder',
    elsewhere: true,
    go(_, from) {
      fs.symlinkSync(join(folder, 'a'), join(folder, 'to-a'));
      fs.symlinkSync(join(folder, 'b'), join(folder, 'to-b'));
      return { from: join(folder, 'to-a', basename(from)), to: join(folder, 'to-b', 'new.img') };
    },
  },
  {
    way: 'in its folder, called by another spelling',
    elsewhere: false,
    go(_, from) {
      fs.symlinkSync(join(folder, 'a'), join(folder, 'to-a'));
      return { from: join(folder, 'to-a', '..', 'a', basename(from)), to: join(folder, 'to-a', 'new.img') };
    },
  },
  {
    way: 'to another file system',
    elsewhere: true,
    device: true,
    go: (_, from) => ({ from, to: join(other, 'new.img') }),
  },
];

async function move(family: Family, way: Way, moved: number): Promise<string> {
  const { from, to } = way.go(family, family.names[moved] ?? '');
  const { format } = family.kind;
  const data = family.dataName === null ? [] : [family.dataName];
  const force = family.byUuid && moved < family.names.length - 1;
  const options = { format: format.name, force, allow: [folder, ...data] };
  const result = way.device === true ? await moveImage(from, to, options) : await renameImage(from, to, options);
  const lonely = way.elsewhere && family.byUuid;
  if (lonely) expect(result.warnings.join(' ')).toMatch(/in its own directory/);
  if (!family.byUuid) expect(result.warnings.join(' ')).not.toMatch(/in its own directory/);
  expect(fs.existsSync(from)).toBe(false);
  return to;
}

/** Every image reads as before, with its parents found by what is stored; by UUID only where they are still beside it. */
async function expectWhole(family: Family, way: Way, moved: number, to: string): Promise<void> {
  for (const [number, name] of family.names.entries()) {
    const source = number === moved ? to : name;
    const uuid = family.byUuid && way.elsewhere && number > 0 && number >= moved;
    if (uuid && number <= moved + 1) continue;
    const allow = [folder, other];
    expect(await stateOf(family, source, allow), `image ${number}`).toEqual(family.states[number]);
  }
}

const cases = KINDS.flatMap((kind, number) =>
  ROLES.filter(({ images }) => images === 1 || kind.format.capabilities.diff).map((role, index) => ({
    ...role,
    kind,
    title: kind.title,
    // In the usual run the ways take turns.
    ways: oneIn(3, WAYS, number + index),
  })),
);

describe.each(cases)('$title, $role', ({ kind, ways, ...role }: (typeof cases)[number]) => {
  it.each(ways)('moves $way', async (way) => {
    const family = await makeFamily(provider, join(folder, 'a'), kind, role);
    const from = family.names[role.moved] ?? '';
    const private0 = [from, ...(family.dataName === null ? [] : [family.dataName])];
    for (const name of private0) fs.chmodSync(name, 0o640);
    fs.utimesSync(from, 1000, 2000);
    const to = await move(family, way, role.moved);
    expect(fs.statSync(to).mode & 0o777).toBe(0o640);
    if (way.device === true) expect(fs.statSync(to).mtimeMs).toBe(2_000_000);
    await expectWhole(family, way, role.moved, to);
    if (family.dataName === null) return;
    const data = join(way.elsewhere ? join(to, '..') : join(folder, 'a'), basename(family.dataName));
    expect(fs.existsSync(data)).toBe(true);
    expect(fs.statSync(data).mode & 0o777).toBe(0o640);
    expect(fs.existsSync(family.dataName)).toBe(data === family.dataName);
  });

  it('moves there and back, and is the file that it was', async () => {
    const family = await makeFamily(provider, join(folder, 'a'), kind, role);
    const [there] = WAYS.filter(({ device }) => device === true);
    const from = family.names[role.moved] ?? '';
    if (there === undefined) throw new Error('there is a way to another file system');
    const data = family.dataName === null ? [] : [family.dataName, join(other, basename(family.dataName))];
    const options = { format: kind.format.name, force: true, allow: [folder, other, ...data] };
    await moveImage(from, join(other, 'x'), options);
    await moveImage(join(other, 'x'), from, options);
    for (const [number, name] of family.names.entries()) {
      expect(await stateOf(family, name, [join(folder, 'a')]), `image ${number}`).toEqual(family.states[number]);
    }
  });
});

describe.skipIf(!HAS_OTHER)('moving to another file system (skipped where there is none)', () => {
  const qcow2 = KINDS.find(({ format, data }) => format.name === 'qcow2' && !data) as Kind;

  it('keeps every byte, and holes', async () => {
    const family = await makeFamily(provider, join(folder, 'a'), qcow2, ROLES[0]);
    const [from = ''] = family.names;
    fs.truncateSync(from, 64 * 1024 ** 2);
    const before = fs.readFileSync(from);
    await moveImage(from, join(other, 'x.qcow2'));
    expect(fs.readFileSync(join(other, 'x.qcow2')).equals(before)).toBe(true);
    expect(fs.statSync(join(other, 'x.qcow2')).blocks * 512).toBeLessThan(8 * 1024 ** 2);
  });

  it('is the same on the command line', async () => {
    const family = await makeFamily(provider, join(folder, 'a'), qcow2, ROLES[0]);
    const [from = ''] = family.names;
    const { status, stderr } = await runCli(['copy', from, `${other}/`, '--move']);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    expect(await stateOf(family, join(other, basename(from)), [other])).toEqual(family.states[0]);
    expect(fs.existsSync(from)).toBe(false);
  });
});

describe('what moves', () => {
  const qcow2 = KINDS.find(({ format, data }) => format.name === 'qcow2' && !data) as Kind;
  const family = (role: Role): Promise<Family> => makeFamily(provider, join(folder, 'a'), qcow2, role);

  it('names its parent by a whole path, or a relative one where that lies below', async () => {
    const made = await family(ROLES[1]);
    const [parent = '', child = ''] = made.names;
    await renameImage(child, join(folder, 'b/c.qcow2'));
    expect((await inspect(join(folder, 'b/c.qcow2'))).parentName).toBe(parent);
    await setImage(join(folder, 'b/c.qcow2'), { parent }, { allow: [folder] });
    await amendImage(join(folder, 'b/c.qcow2'), { backing_file: '../a/0.qcow2', backing_fmt: 'qcow2' });
    await renameImage(join(folder, 'b/c.qcow2'), join(folder, 'c.qcow2'));
    expect((await inspect(join(folder, 'c.qcow2'))).parentName).toBe('a/0.qcow2');
    expect(await stateOf(made, join(folder, 'c.qcow2'), [folder])).toEqual(made.states[1]);
  });

  it('is not moved away from children that are in use, and nothing has changed then', async () => {
    const made = await family(ROLES[2]);
    const [parent = '', child = ''] = made.names;
    const before = made.names.map((name) => fs.readFileSync(name));
    const storage = await provider.open(child, 'read');
    await storage.lock('shared');
    await expect(renameImage(parent, join(folder, 'a/new'))).rejects.toMatchObject({
      kind: 'busy',
      message: expect.stringContaining(child),
    });
    await storage.close();
    for (const [number, name] of made.names.entries()) {
      expect(fs.readFileSync(name).equals(before[number] ?? new Uint8Array())).toBe(true);
    }
    expect((await renameImage(parent, join(folder, 'a/new'))).warnings).toHaveLength(1);
  });

  it('does not touch children that name another of its hard links', async () => {
    const made = await family(ROLES[2]);
    const [parent = '', child = ''] = made.names;
    fs.linkSync(parent, join(folder, 'b/second'));
    await renameImage(join(folder, 'b/second'), join(folder, 'b/third'));
    expect((await inspect(child)).parentName).toBe(basename(parent));
    expect(await stateOf(made, child, [folder])).toEqual(made.states[1]);
  });

  it('is found by children that name a link to it', async () => {
    const made = await family(ROLES[0]);
    const [parent = ''] = made.names;
    fs.symlinkSync(parent, join(folder, 'a/link.qcow2'));
    const child = join(folder, 'a/c.qcow2');
    await createImage(child, { parent: join(folder, 'a/link.qcow2'), parentFormat: 'qcow2' });
    const before = await stateOf(made, child, [folder]);
    await renameImage(parent, join(folder, 'a/new.qcow2'));
    expect(await stateOf(made, child, [folder])).toEqual(before);
  });

  it('is itself renamed where its name is a link, and not led astray', async () => {
    const made = await family(ROLES[1]);
    const [, child = ''] = made.names;
    fs.symlinkSync('1.qcow2', join(folder, 'a/link.qcow2'));
    await expect(renameImage(join(folder, 'a/link.qcow2'), join(folder, 'b/link.qcow2'))).rejects.toMatchObject({
      kind: 'unsupported',
    });
    await renameImage(join(folder, 'a/link.qcow2'), join(folder, 'a/other.qcow2'));
    expect(fs.readlinkSync(join(folder, 'a/other.qcow2'))).toBe('1.qcow2');
    expect(await stateOf(made, child, [folder])).toEqual(made.states[1]);
  });

  it('never takes the place of a file, a copy of another image least of all', async () => {
    const made = await family(ROLES[0]);
    const [from = ''] = made.names;
    fs.writeFileSync(join(other, 'x'), fs.readFileSync(from).reverse());
    fs.linkSync(from, join(folder, 'b/same'));
    fs.symlinkSync(join(folder, 'a'), join(folder, 'to-a'));
    for (const to of [join(other, 'x'), join(folder, 'to-a', basename(from)), from]) {
      await expect(moveImage(from, to, { force: true }), to).rejects.toMatchObject({ kind: 'exists' });
    }
    expect(await stateOf(made, from, [folder])).toEqual(made.states[0]);
  });
});

describe('a move into another format', () => {
  const qcow2 = KINDS.find(({ format, data }) => format.name === 'qcow2' && !data) as Kind;
  const vdi = KINDS.find(({ format }) => format.name === 'vdi') as Kind;

  it('is refused where snapshots or bitmaps would be lost, and leaves all as it was', async () => {
    const made = await makeFamily(provider, join(folder, 'a'), qcow2, ROLES[0]);
    const [from = ''] = made.names;
    const { status, stderr } = await runCli(['copy', from, join(other, 'x.vdi'), '--move', '--to', 'vdi']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/1 internal snapshots and 1 bitmaps/);
    expect(fs.readdirSync(other)).toEqual([]);
    expect(await stateOf(made, from, [folder])).toEqual(made.states[0]);
  });

  it('keeps owner, permissions and times, and says what has no place there', async () => {
    const made = await makeFamily(provider, join(folder, 'a'), vdi, ROLES[0]);
    const [from = ''] = made.names;
    await setImage(from, { comment: 'a comment' });
    fs.chmodSync(from, 0o640);
    fs.utimesSync(from, 1000, 2000);
    const to = join(other, 'x.qcow2');
    const { warnings } = await moveImage(from, to, { to: 'qcow2' });
    expect(warnings).toEqual([expect.stringContaining('"a comment"')]);
    expect(fs.statSync(to).mode & 0o777).toBe(0o640);
    expect((await stateOf({ kind: qcow2 }, to, [])).hash).toBe(made.states[0]?.hash);
  });

  it('goes on where it was cut before the original was removed, and takes no other image for its copy', async () => {
    const made = await makeFamily(provider, join(folder, 'a'), vdi, ROLES[0]);
    const [from = ''] = made.names;
    const to = join(other, 'x.qcow2');
    await convert(from, to, { format: 'qcow2' });
    await using disk = await Disk.open(to, { mode: 'write' });
    await disk.write(SIZE - 512, new Uint8Array(512).fill(5));
    await disk.flush();
    await disk.close();
    await expect(moveImage(from, to, { to: 'qcow2' })).rejects.toMatchObject({ kind: 'exists' });
    await convert(from, to, { format: 'qcow2', force: true });
    await moveImage(from, to, { to: 'qcow2' });
    expect(fs.existsSync(from)).toBe(false);
    expect((await stateOf({ kind: qcow2 }, to, [])).hash).toBe(made.states[0]?.hash);
  });
});

describe('what an image names', () => {
  const withData = KINDS.find(({ data }) => data) as Kind;

  it('goes along only where it is allowed by its own name: it may be any file beside the image', async () => {
    const made = await makeFamily(provider, join(folder, 'a'), withData, ROLES[0]);
    const [from = ''] = made.names;
    const name = made.dataName ?? '';
    const format = withData.format.name;
    for (const to of [join(folder, 'b/x'), join(other, 'x')]) {
      await expect(moveImage(from, to, { format, allow: [folder] })).rejects.toMatchObject({ kind: 'denied' });
    }
    expect(await stateOf(made, from, [folder])).toEqual(made.states[0]);
    expect(fs.existsSync(name)).toBe(true);
    await moveImage(from, join(folder, 'b/x'), { format, allow: [name] });
    expect(fs.existsSync(name)).toBe(false);
  });
});

describe.each(cases)('$title, $role: its names and its rights', ({ kind, ...role }: { kind: Kind } & Role) => {
  const make = (): Promise<Family> => makeFamily(provider, join(folder, 'a'), kind, role);

  it('are not taken by a new image, a conversion or a copy, whatever force says', async () => {
    const family = await make();
    const { format } = kind;
    const last = family.names.at(-1) ?? '';
    const below = [...family.names.slice(0, -1), ...(family.dataName === null ? [] : [family.dataName])];
    fs.symlinkSync(join(folder, 'a'), join(folder, 'to-a'));
    for (const name of below) {
      const file = basename(name);
      fs.linkSync(name, join(folder, 'b', file));
      for (const target of [name, join(folder, 'b', file), join(folder, 'to-a', file)]) {
        const options = { force: true, allow: [folder], format: format.name };
        const source = { sourceFormat: format.name };
        await expect(convert(last, target, { ...options, ...source }), target).rejects.toMatchObject({
          kind: 'exists',
        });
        if (!format.capabilities.diff) continue;
        const child = { ...options, parent: last, parentFormat: format.name };
        await expect(createImage(target, child), target).rejects.toMatchObject({ kind: 'exists' });
      }
      fs.rmSync(join(folder, 'b', file));
    }
    for (const [number, name] of family.names.entries()) {
      expect(await stateOf(family, name, [folder]), name).toEqual(family.states[number]);
    }
  });

  it('are those of what is replaced, and a copy is as private as all that it comes from', async () => {
    const family = await make();
    const last = family.names.at(-1) ?? '';
    const options = { force: true, allow: [folder], format: kind.format.name, sourceFormat: kind.format.name };
    fs.writeFileSync(join(folder, 'b/old'), '');
    fs.chmodSync(join(folder, 'b/old'), 0o640);
    await convert(last, join(folder, 'b/old'), options);
    expect(fs.statSync(join(folder, 'b/old')).mode & 0o777).toBe(0o640);
    fs.chmodSync(family.names[role.moved] ?? '', 0o600);
    await convert(last, join(folder, 'b/old'), options);
    expect(fs.statSync(join(folder, 'b/old')).mode & 0o777).toBe(0o600);
    await using disk = await Disk.open(last, { allow: [folder], format: kind.format.name });
    await copyChain(disk, (name) => join(folder, 'b', basename(name)));
    for (const [number, name] of family.names.entries()) {
      const copy = join(folder, 'b', basename(name));
      expect((await stateOf(family, copy, [folder])).hash, copy).toBe(family.states[number]?.hash);
      if (number === role.moved) expect(fs.statSync(copy).mode & 0o777).toBe(0o600);
    }
  });
});
