/** Nothing can be forgotten: the lists that the scenarios run over are compared with the source folders. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createImage } from '../../src/operations/create.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { REGISTRY as registry } from './registry.ts';
import { STORAGE_KINDS } from './storages.ts';

const MADE = registry.formats.filter(({ capabilities, create }) => capabilities.write && create !== undefined);

/** A class that is a provider, or a function that makes one (other than the platform's choice among them). */
const MAKES_PROVIDER = /export (class \w+ implements|function (?!defaultProvider)\w+\([^)]*\):) StorageProvider\b/;
/** Hand everything, or nearly so, to another provider: tests beside them take their members in turn. */
const PASS_THROUGH = ['forwarding.ts', 'without-holes.ts'];
const STORAGE_FOLDER = new URL('../../src/storage/', import.meta.url);

it('runs over every provider in src/storage', () => {
  const providers = readdirSync(STORAGE_FOLDER, { recursive: true })
    .map((name) => String(name).replaceAll('\\', '/'))
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !PASS_THROUGH.includes(name))
    .filter((name) => MAKES_PROVIDER.test(readFileSync(new URL(name, STORAGE_FOLDER), 'utf8')));
  expect(providers.sort()).toEqual(STORAGE_KINDS.map(({ module }) => module).sort());
});

// The usual run leaves that word out: `wordsBesideDefault`.
it.each(MADE)('$name: the first variant is the default', async ({ name: format, variants }) => {
  const image = { provider: new MemoryProvider(), name: '/disk' };
  await createImage(image, { registry, format, size: 2 ** 20 });
  const { variant = [] } = await inspect(image, { registry, format });
  // A format that keeps no such mark reports none.
  if (variant.length > 0) expect(variant).toContain(variants[0]?.word);
});
