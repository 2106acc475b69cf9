import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { whileExchanged } from '../../test/conformance/exchanging.ts';
import { rounds } from '../../test/conformance/random.ts';
import { isImageError } from '../errors.ts';
import type { NameInfo, OpenMode, Storage, StorageProvider } from './contract.ts';
import { denyAll, type OpenGate, openGate, withOwnParts } from './gate.ts';
import { localFiles } from './local/index.ts';
import { nativeCalls } from './local/native.ts';
import { MemoryProvider } from './memory.ts';

let top: string;
let place: string;
let origin: { provider: StorageProvider; name: string };

beforeEach(() => {
  top = realpathSync(mkdtempSync(join(tmpdir(), 'vdkit-gate-')));
  place = join(top, 'images');
  mkdirSync(join(place, 'below'), { recursive: true });
  mkdirSync(join(top, 'images-other'));
  for (const name of ['images/diff', 'images/base', 'images/below/base', 'secret', 'images-other/base']) {
    writeFileSync(join(top, name), name);
  }
  origin = { provider: localFiles(), name: join(place, 'diff') };
});
afterEach(() => {
  rmSync(top, { recursive: true, force: true });
});

async function opens(gate: OpenGate, name: string, mode: OpenMode = 'read'): Promise<string> {
  const resolved = origin.provider.resolve(name, origin.name);
  const storage = await gate.open({ name: resolved, role: 'parent image' }, origin, mode);
  const bytes = new Uint8Array(storage.size);
  await storage.read(0, bytes);
  await storage.close();
  return new TextDecoder().decode(bytes);
}

async function expectDenied(gate: OpenGate, name: string, reason: RegExp): Promise<void> {
  await expect(opens(gate, name)).rejects.toMatchObject({ kind: 'denied', message: expect.stringMatching(reason) });
}

async function candidatesOf(gate: OpenGate, from = origin): Promise<string[]> {
  const names: string[] = [];
  for await (const name of gate.candidates(from)) names.push(name);
  return names.sort();
}

describe('denyAll', () => {
  it('names file, role and image, and says what to do', async () => {
    await expect(opens(denyAll(), 'base')).rejects.toMatchObject({
      kind: 'denied',
      message: expect.stringMatching(/images\/base.*parent image/),
      context: { path: origin.name },
      hint: expect.stringContaining('--allow'),
    });
    await expect(candidatesOf(denyAll())).rejects.toMatchObject({ kind: 'denied' });
  });
});

describe('openGate', () => {
  const gateTo = (...roots: string[]): OpenGate => openGate({ roots, provider: localFiles() });

  it('opens files in a root and below', async () => {
    expect(await opens(gateTo(place), 'base')).toBe('images/base');
    expect(await opens(gateTo(place), 'below/base')).toBe('images/below/base');
    expect(await opens(gateTo(join(top, 'nothing'), place), 'below/../base')).toBe('images/base');
    expect(await opens(openGate({ roots: [place] }), 'base')).toBe('images/base');
  });

  it('lets only what is named itself be written', async () => {
    const reason = { kind: 'denied', message: expect.stringContaining('its exact name') };
    await expect(opens(gateTo(place), 'below/base', 'write')).rejects.toMatchObject(reason);
    await expect(opens(gateTo(place, join(place, 'below')), 'below/base', 'write')).rejects.toMatchObject(reason);
    expect(await opens(gateTo(place, join(place, 'below/base')), 'below/base', 'write')).toBe('images/below/base');
  });

  it('opens a single file that is a root, and not its neighbours', async () => {
    const gate = gateTo(join(top, 'secret'));
    expect(await opens(gate, '../secret')).toBe('secret');
    await expectDenied(gate, 'base', /outside/);
  });

  it('resolves links in the roots', async () => {
    symlinkSync(place, join(top, 'link'));
    expect(await opens(gateTo(join(top, 'link')), 'base')).toBe('images/base');
  });

  it.each(['../secret', '../images-other/base', '/etc/passwd'])('denies %s', async (name) => {
    await expectDenied(gateTo(place), name, /outside/);
  });

  it('denies names outside whether they exist or not', async () => {
    await expectDenied(gateTo(place), '../not-there', /outside/);
    await expectDenied(gateTo(place), '/not/there', /outside/);
  });

  it('denies links that lead out, of files and of directories', async () => {
    symlinkSync('../secret', join(place, 'link'));
    symlinkSync('..', join(place, 'up'));
    await expectDenied(gateTo(place), 'link', /outside/);
    await expectDenied(gateTo(place), 'up/secret', /outside/);
  });

  it('follows links that stay inside', async () => {
    symlinkSync('below/base', join(place, 'link'));
    expect(await opens(gateTo(place), 'link')).toBe('images/below/base');
  });

  it('says that a file inside is missing, and who wants it', async () => {
    await expect(opens(gateTo(place), 'gone')).rejects.toMatchObject({ kind: 'not-found' });
  });

  it.each(['/proc/self/mem', '/sys/kernel/uevent_seqnum', '/dev/null'])('never opens %s', async (name) => {
    await expectDenied(gateTo('/', name), name, /outside|regular/);
  });

  it.runIf(process.platform === 'linux')('judges a file by its file system, whatever name leads to it', async () => {
    // A name that no rule forbids, as a mount elsewhere has it.
    const provider = localFiles();
    const elsewhere: StorageProvider = Object.assign(Object.create(provider), {
      open: (_: string, mode: OpenMode) => provider.open('/proc/self/status', mode),
    });
    const wanted = openGate({ roots: ['/'] }).open(
      { name: join(place, 'base'), role: 'parent image' },
      { provider: elsewhere, name: origin.name },
      'read',
    );
    await expect(wanted).rejects.toMatchObject({ kind: 'denied', message: expect.stringContaining('regular') });
  });

  it.runIf(existsSync('/dev/shm'))('opens files in memory, though their names begin with /dev', async () => {
    const folder = mkdtempSync('/dev/shm/vdkit-gate-');
    try {
      writeFileSync(join(folder, 'base'), 'in memory');
      const from = { provider: localFiles(), name: join(folder, 'diff') };
      writeFileSync(from.name, '');
      const gate = gateTo(folder);
      expect(await candidatesOf(gate, from)).toEqual([join(folder, 'base'), from.name]);
      expect(await opens(gate, join(folder, 'base'))).toBe('in memory');
      symlinkSync('/dev/zero', join(folder, 'device'));
      await expectDenied(gateTo('/'), join(folder, 'device'), /regular/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it.each(['json:{"driver":"raw"}', 'nbd://host/export', 'http://host/a', 'file:///etc/passwd'])(
    'denies the name %s',
    async (name) => {
      const wanted = openGate({ roots: ['/'] }).open({ name, role: 'parent image' }, origin, 'read');
      await expect(wanted).rejects.toMatchObject({ kind: 'denied' });
    },
  );

  it('denies directories', async () => {
    await expectDenied(gateTo(place), 'below', /regular/);
  });
});

describe('openGate, with names exchanged between check and use', () => {
  /** A name that leads to one file when opened and to another when checked. */
  class Exchanging extends MemoryProvider {
    readonly opened: Storage[] = [];

    override async open(_name: string, mode: OpenMode): Promise<Storage> {
      const storage = await super.open('/secret', mode);
      this.opened.push(storage);
      return storage;
    }
  }

  it('denies a handle that is not what the name is, and closes it', async () => {
    const provider = new Exchanging();
    await (await provider.create('/images/base')).write(0, Uint8Array.of(1));
    await (await provider.create('/secret')).write(0, Uint8Array.of(2));
    const from = { provider, name: '/images/diff' };
    const gate = openGate({ roots: ['/images'] });
    const wanted = gate.open({ name: '/images/base', role: 'parent image' }, from, 'read');
    await expect(wanted).rejects.toMatchObject({ kind: 'denied', message: expect.stringContaining('changed') });
    const [storage] = provider.opened;
    await expect(storage?.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' });
  });

  it('denies a name that leads elsewhere after it was opened', async () => {
    let looks = 0;
    class Moving extends MemoryProvider {
      override async realName(name: string): Promise<string> {
        if (name !== '/images/base') return super.realName(name);
        return ++looks === 1 ? name : '/secret';
      }
      override async open(name: string, mode: OpenMode): Promise<Storage> {
        return super.open(name === '/images/base' ? '/secret' : name, mode);
      }
    }
    const provider = new Moving();
    await provider.create('/images/base');
    await provider.create('/secret');
    const wanted = openGate({ roots: ['/images'] }).open(
      { name: '/images/base', role: 'parent image' },
      { provider, name: '/images/diff' },
      'read',
    );
    await expect(wanted).rejects.toMatchObject({ kind: 'denied', message: expect.stringContaining('outside') });
    expect(looks).toBe(2);
  });

  it('does not open what the name shows to be a device', async () => {
    class Devices extends MemoryProvider {
      override async lookUp(name: string): Promise<NameInfo | null> {
        const info = await super.lookUp(name);
        return info === null ? null : { ...info, kind: 'device' };
      }
      override open(): Promise<Storage> {
        throw new Error('opened');
      }
    }
    const provider = new Devices();
    await provider.create('/images/watchdog');
    const wanted = openGate({ roots: ['/'] }).open(
      { name: '/images/watchdog', role: 'extent' },
      { provider, name: '/images/diff' },
      'read',
    );
    await expect(wanted).rejects.toMatchObject({ kind: 'denied' });
  });
});

describe.runIf(nativeCalls() !== null)('openGate, while another process exchanges a directory and a link', () => {
  it.each(['dir/base', 'dir/below/base'])('reads nothing outside of what was allowed: %s', async (name) => {
    for (const [folder, content] of [
      [join(place, 'dir'), 'inside'],
      [join(top, 'outside'), 'outside'],
    ] as const) {
      mkdirSync(join(folder, 'below'), { recursive: true });
      for (const file of ['base', 'below/base']) writeFileSync(join(folder, file), content);
    }
    symlinkSync(join(top, 'outside'), join(place, 'link'));
    const seen = new Map<string, number>();
    await whileExchanged(join(place, 'dir'), join(place, 'link'), async () => {
      const gate = openGate({ roots: [place], provider: localFiles() });
      for (let round = 0; round < rounds(3000, 40_000); round++) {
        const outcome = await opens(gate, name).catch((error: unknown) => (isImageError(error) ? error.kind : 'bug'));
        seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
      }
    });
    expect([...seen.keys()].filter((outcome) => !['inside', 'denied', 'not-found'].includes(outcome))).toEqual([]);
    expect(seen.get('inside')).toBeGreaterThan(0);
  });
});

describe('candidates', () => {
  it('are the files beside the image', async () => {
    expect(await candidatesOf(openGate({ roots: [place] }))).toEqual([join(place, 'base'), join(place, 'diff')]);
    await expect(candidatesOf(openGate({ roots: [join(place, 'below')] }))).rejects.toMatchObject({ kind: 'denied' });
  });

  it('are read as they are asked for', async () => {
    const listed: string[] = [];
    class Listing extends MemoryProvider {
      override async *list(directory: string): AsyncGenerator<string> {
        for await (const name of super.list(directory)) {
          listed.push(name);
          yield name;
        }
      }
    }
    const provider = new Listing();
    for (let index = 0; index < 10; index++) await provider.create(`/images/${index}`);
    const gate = openGate({ roots: ['/'] });
    for await (const _ of gate.candidates({ provider, name: '/images/0' })) if (listed.length === 3) break;
    expect(listed).toHaveLength(3);
  });
});

describe('withOwnParts', () => {
  const own = (name: string, isDirectory = false, gate = denyAll()): OpenGate => {
    const { provider } = origin;
    return withOwnParts(gate, async () => ({ provider, name: join(place, name), isDirectory }));
  };
  const files = [
    'disk.vmdk',
    'disk-flat.vmdk',
    'disk-s001.vmdk',
    'disk.raw',
    'disk.vmdk.data',
    'disks.vmdk',
    'disk2-flat.vmdk',
    'other',
  ];

  beforeEach(() => {
    for (const name of files) writeFileSync(join(place, name), name);
    for (const folder of ['disk.parts', 'other.parts']) {
      mkdirSync(join(place, folder));
      writeFileSync(join(place, folder, 'one'), `${folder}/one`);
    }
  });

  const wanted = (name: string, part = true) => ({
    name: origin.provider.resolve(name, origin.name),
    role: 'extent',
    part,
  });

  async function reaches(gate: OpenGate, name: string, mode: OpenMode = 'read', part = true): Promise<boolean> {
    try {
      await (await gate.open(wanted(name, part), origin, mode)).close();
      return true;
    } catch (error) {
      if (isImageError(error) && error.kind === 'denied') return false;
      throw error;
    }
  }

  it('opens files that continue the name of the image, for writing too', async () => {
    for (const name of ['disk-flat.vmdk', 'disk-s001.vmdk', 'disk.vmdk.data', 'disk.parts/one']) {
      expect(await reaches(own('disk.vmdk'), name), name).toBe(true);
      expect(await reaches(own('disk.vmdk'), name, 'write'), name).toBe(true);
    }
  });

  it('leaves all other files to the gate, and the image itself, and what is no part', async () => {
    // `disk.raw` is another image of that name: a stranger's descriptor must not reach it.
    for (const name of [
      'disk.raw',
      'disks.vmdk',
      'disk2-flat.vmdk',
      'other',
      'other.parts/one',
      '../secret',
      'disk.vmdk',
    ]) {
      for (const mode of ['read', 'write'] as const)
        expect(await reaches(own('disk.vmdk'), name, mode), name).toBe(false);
    }
    expect(await reaches(own('disk.vmdk'), 'disk-flat.vmdk', 'read', false)).toBe(false);
    expect(await reaches(own('disk.vmdk', false, openGate({ roots: [place] })), 'other')).toBe(true);
    expect(await reaches(own('disk.vmdk', false, openGate({ roots: [place] })), 'other', 'write')).toBe(false);
  });

  it('judges where the file lies, not its name', async () => {
    symlinkSync('../secret', join(place, 'disk-link.vmdk'));
    symlinkSync('..', join(place, 'disk-up'));
    symlinkSync('disk.vmdk', join(place, 'disk-self.vmdk'));
    symlinkSync('disk-flat.vmdk', join(place, 'elsewhere'));
    for (const name of ['disk-link.vmdk', 'disk-up/secret', 'disk-self.vmdk']) {
      expect(await reaches(own('disk.vmdk'), name), name).toBe(false);
    }
    expect(await reaches(own('disk.vmdk'), 'elsewhere')).toBe(true);
  });

  it('tells of a part that is missing', async () => {
    await expect(reaches(own('disk.vmdk'), 'disk-s002.vmdk')).rejects.toMatchObject({ kind: 'not-found' });
    expect(await reaches(own('disk.vmdk'), 'missing')).toBe(false);
  });

  it('counts the whole name where there is no extension, and where there is nothing else', async () => {
    for (const name of ['.vmdk', '.vmdk-flat', 'image', 'image-flat']) writeFileSync(join(place, name), name);
    expect(await reaches(own('.vmdk'), '.vmdk-flat')).toBe(true);
    expect(await reaches(own('.vmdk'), 'disk.raw')).toBe(false);
    expect(await reaches(own('image'), 'image-flat')).toBe(true);
  });

  it('opens everything in an image that is a directory, and nothing beside it', async () => {
    expect(await reaches(own('disk.parts', true), 'disk.parts/one', 'write')).toBe(true);
    for (const name of ['disk.parts', 'disk.raw', 'other.parts/one', 'disk.parts/../other']) {
      expect(await reaches(own('disk.parts', true), name), name).toBe(false);
    }
  });
});
