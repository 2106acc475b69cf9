/** Names with a scheme lead to the provider of that scheme, or nowhere; never to a file of the current directory. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { runCli } from '../../test/cli/run-cli.ts';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { defaultRegistry } from '../formats/index.ts';
import { convert } from '../operations/convert.ts';
import { createImage } from '../operations/create.ts';
import { renameImage } from '../operations/files.ts';
import { inspect } from '../operations/inspect.ts';
import { openDisk } from '../operations/open.ts';
import type { NameInfo } from '../storage/contract.ts';
import { MemoryProvider } from '../storage/memory.ts';
import type { Registry } from './registry.ts';

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'vdkit-schemes-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Files of a machine that is only in memory: `toy://host/name`. */
class ToyFiles extends MemoryProvider {
  override resolve(name: string, relativeTo: string): string {
    return name.startsWith('toy://') ? name : `${this.directory(relativeTo)}/${name}`;
  }

  override async realName(name: string): Promise<string> {
    return name;
  }

  override async lookUp(name: string): Promise<NameInfo | null> {
    return name === 'toy://host' ? { kind: 'directory', size: 0, key: name } : super.lookUp(name);
  }
}

function toyRegistry(): { registry: Registry; opened: () => number } {
  const registry = defaultRegistry();
  let opened = 0;
  registry.registerScheme({
    name: 'toy',
    open: () => {
      opened++;
      return new ToyFiles();
    },
  });
  return { registry, opened: () => opened };
}

describe('a registered scheme', () => {
  it('has its own files, for every operation', async () => {
    const { registry, opened } = toyRegistry();
    const environment = { registry, allow: ['same-directory'] };
    await createImage('toy://host/base.vdi', { size: 4 * MIB, ...environment });
    {
      await using disk = await openDisk('toy://host/base.vdi', { mode: 'write', ...environment });
      await disk.write(0, new Uint8Array(512).fill(7));
    }
    await createImage('toy://host/diff.vdi', { parent: 'toy://host/base.vdi', ...environment });
    const local = join(folder, 'copy.raw');
    await convert('toy://host/diff.vdi', local, environment);
    {
      await using copy = await openDisk(local, { format: 'raw' });
      const bytes = new Uint8Array(512);
      await copy.read(0, bytes);
      expect(bytes[511]).toBe(7);
    }
    await renameImage('toy://host/diff.vdi', 'toy://host/other.vdi', environment);
    expect(await inspect('toy://host/other.vdi', environment)).toMatchObject({ format: 'vdi' });
    expect(opened()).toBe(1);
  });

  it('is of one name, and can be taken out again', async () => {
    const { registry } = toyRegistry();
    await expectKind(async () => registry.registerScheme({ name: 'TOY', open: () => new ToyFiles() }), 'exists');
    for (const name of ['c', '9p', 'a b', 'toy:']) {
      await expectKind(async () => registry.registerScheme({ name, open: () => new ToyFiles() }), 'invalid-argument');
    }
    const [scheme] = registry.schemes;
    if (scheme !== undefined) registry.unregister(scheme);
    expect(registry.providerOf('toy://host/a.vdi')).toBeNull();
  });
});

describe('a scheme that is not registered', () => {
  it('is refused, and named in the hint are those that there are', async () => {
    const { registry } = toyRegistry();
    const local = join(folder, 'local.vdi');
    await createImage(local, { size: MIB });
    for (const run of [
      () => inspect('http://example.org/disk.vdi', { registry }),
      () => createImage('nbd://host/disk.vdi', { size: MIB, registry }),
      () => convert(local, 's3://bucket/disk.vdi', { registry }),
      () => renameImage(local, 'http://example.org/b.vdi', { registry }),
    ]) {
      await expectKind(run, 'unsupported');
    }
    await expect(inspect('http://example.org/disk.vdi', { registry })).rejects.toMatchObject({
      kind: 'unsupported',
      context: { path: 'http://example.org/disk.vdi' },
      hint: 'Names may begin with toy:. For a file of that name, put ./ before it.',
    });
  });

  it('is a name like any other for a provider of the caller', async () => {
    const provider = new MemoryProvider();
    await (await provider.create('/http:/example.org/other')).close();
    await createImage('http://example.org/disk.vdi', { size: MIB, provider });
    expect(await inspect('http://example.org/disk.vdi', { provider })).toMatchObject({ format: 'vdi' });
  });

  it('makes no file on the command line; with ./ before it a name is a file', async () => {
    const refused = await runCli(['create', 'http://example.org/disk.vdi', '1M']);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/Names that begin with http: are not supported/);
    expect(refused.stderr).toMatch(/put \.\/ before it/);
    const odd = join(folder, 'http:odd.vdi');
    expect((await runCli(['create', odd, '1M'])).status).toBe(0);
    expect(readdirSync(folder)).toContain('http:odd.vdi');
  });

  it('comes to the command line by a plugin', async () => {
    const plugin = join(folder, 'VDPluginToy.mjs');
    writeFileSync(
      plugin,
      `export function VDPluginLoad(register) {
        const refuse = async (path) => { throw new register.ImageError('not-found', 'The toy has no files', { path }); };
        const provider = { open: refuse, lookUp: async () => null, realName: refuse, resolve: (name) => name, directory: () => 'toy://host' };
        register.registerScheme({ name: 'toy', open: () => provider });
      }`,
    );
    const outcome = await runCli(['info', 'toy://host/disk.vdi', '--plugin', plugin]);
    expect(outcome.stderr).toMatch(/The toy has no files/);
  });
});
