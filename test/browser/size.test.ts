/** Bytes that a page loads to inspect images of one format. */
import { join } from 'node:path';
import { build, type Metafile } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';
import { FORMATS } from '../../src/formats/index.ts';

/** Minified, without the codecs of compressed images, which are loaded when one is met, and without what recognises other formats. */
const MOST = 150_000;
/** The module of a format that opens images; those in its folders are loaded for a part of them. */
const OPENS = /^src\/formats\/\w+\/(open|driver)\.ts$/;
/** Modules that make, check and repair images: looking at an image needs none of them. */
const LATER = /\/(maker|create|checker|check|repair)\.ts$/;

const READ = FORMATS.filter(({ capabilities }) => capabilities.read).map(({ name }) => name);

describe('a page that inspects images', () => {
  it.each(READ)('of format %s loads little, and no code of other formats', async (name) => {
    const outputs = await chunksOf(name);
    const loaded = new Set<string>();
    for (const [chunk, { entryPoint = '' }] of Object.entries(outputs)) {
      const driver = entryPoint.startsWith(`src/formats/${name}/`) && OPENS.test(entryPoint);
      if (entryPoint === 'page.ts' || entryPoint === '<stdin>' || driver) load(chunk, outputs, loaded);
    }
    const bytes = [...loaded].reduce((sum, chunk) => sum + (outputs[chunk]?.bytes ?? 0), 0);
    expect(bytes).toBeGreaterThan(10_000);
    expect(bytes).toBeLessThan(MOST);
    const inputs = [...loaded].flatMap((chunk) => Object.keys(outputs[chunk]?.inputs ?? {}));
    const others = READ.filter((other) => other !== name);
    expect(inputs.filter((input) => input.startsWith('src/formats/') && LATER.test(input))).toEqual([]);
    expect(inputs.filter((input) => others.some((other) => isDriver(input, other)))).toEqual([]);
  });
});

/** A file of another format that only opening needs. */
function isDriver(input: string, format: string): boolean {
  return input.startsWith(`src/formats/${format}/`) && OPENS.test(input);
}

async function chunksOf(name: string): Promise<Metafile['outputs']> {
  const contents = `export { inspect, Registry } from './src/index.ts'; export { ${name} } from './src/formats/${name}/index.ts';`;
  const { metafile } = await build({
    absWorkingDir: ROOT,
    stdin: { contents, resolveDir: ROOT },
    bundle: true,
    minify: true,
    splitting: true,
    write: false,
    metafile: true,
    outdir: join(ROOT, '.cache', 'size'),
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'silent',
    alias: {
      '#local-storage': join(ROOT, 'src/storage/local.browser.ts'),
      '#compress': join(ROOT, 'src/codec/compress.browser.ts'),
      '#decompress': join(ROOT, 'src/codec/decompress.browser.ts'),
    },
  });
  return metafile.outputs;
}

/** A chunk with all chunks that it imports at once. */
function load(chunk: string, outputs: Metafile['outputs'], loaded: Set<string>): void {
  if (loaded.has(chunk)) return;
  loaded.add(chunk);
  for (const { path, kind } of outputs[chunk]?.imports ?? []) {
    if (kind === 'import-statement') load(path, outputs, loaded);
  }
}
