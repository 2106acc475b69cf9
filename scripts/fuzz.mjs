/**
 * `npm run fuzz -- --format vdi --seconds 60 [--seed 1]`: changes images at random and looks what vdkit does with them.
 * The fuzzer itself is `test/hostile/fuzz.ts`; this bundles it from the sources as they are, without a build.
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkNode, ensureInstalled, ROOT } from './prepare.mjs';

checkNode();
ensureInstalled();
const { build } = await import('esbuild');

// Two folders below the package, as the sources are, so that they find its files.
const bundle = join(ROOT, '.cache', 'hostile', `fuzz-${process.pid}.mjs`);
await build({
  absWorkingDir: ROOT,
  entryPoints: ['test/hostile/fuzz.ts'],
  outfile: bundle,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node20',
  alias: {
    '#local-storage': join(ROOT, 'src/storage/local.browser.ts'),
    '#compress': join(ROOT, 'src/codec/compress.ts'),
    '#decompress': join(ROOT, 'src/codec/decompress.ts'),
  },
  external: ['koffi', '@foxglove/wasm-zstd', 'xz-decompress', 'esbuild', 'vitest'],
  logLevel: 'warning',
});
const { main } = await import(pathToFileURL(bundle).href);
rmSync(bundle);
process.exitCode = await main(process.argv.slice(2), join(ROOT, '.cache', 'fuzz'));
