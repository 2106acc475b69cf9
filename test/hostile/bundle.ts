/** Bundles the child process into one script, from the sources as they are now. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** Bundled code lies two folders below the package, as this file does. */
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

/** The path of the bundled script. Named by its content, so that runs beside each other do not meet. */
export async function bundleChild(): Promise<string> {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['test/hostile/child.ts'],
    bundle: true,
    write: false,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    sourcesContent: false,
    // A child has no files to read: what it tries comes by message.
    alias: {
      '#local-storage': `${ROOT}src/storage/local.browser.ts`,
      '#compress': `${ROOT}src/codec/compress.ts`,
      '#decompress': `${ROOT}src/codec/decompress.ts`,
    },
    external: ['koffi', '@foxglove/wasm-zstd'],
    logLevel: 'warning',
  });
  const bytes = outputFiles[0]?.contents ?? new Uint8Array(0);
  const folder = `${ROOT}.cache/hostile`;
  const path = `${folder}/child-${createHash('sha256').update(bytes).digest('hex').slice(0, 16)}.mjs`;
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    removeOld(folder);
    writeFileSync(`${path}.${process.pid}`, bytes);
    renameSync(`${path}.${process.pid}`, path);
  }
  return path;
}

/** Removes bundles older than an hour. */
function removeOld(folder: string): void {
  for (const name of readdirSync(folder)) {
    const path = `${folder}/${name}`;
    if (Date.now() - statSync(path).mtimeMs > 3_600_000) rmSync(path, { force: true });
  }
}
