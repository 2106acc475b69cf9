/** Bundles the command line into one file: for `dist/` and for the tests that run it as a program. */
import { join } from 'node:path';
import { build } from 'esbuild';
import { ROOT } from './prepare.mjs';

/**
 * Bundles the command line into `folder`: `bin.js`, which starts it, and `program.js`, which is all the rest. CommonJS
 * in one file each, because that loads faster than modules in many, and can be compiled beforehand.
 * @param {string} folder
 * @param {import('esbuild').BuildOptions} [more]
 */
export async function bundleCommandLine(folder, more = {}) {
  const inputs = [
    await bundle('src/cli/bin.ts', { outdir: folder, ...more }),
    // What is compiled beforehand has no `import()`: bin.js hands its own to the code that needs one.
    await bundle('src/cli/program.ts', { outdir: folder, supported: { 'dynamic-import': false }, ...more }),
  ];
  return { inputs: inputs.flat() };
}

/**
 * Bundles one program of this package; returns the files that went into it.
 * @param {string} entry
 * @param {import('esbuild').BuildOptions} more
 */
export async function bundle(entry, more) {
  const { warnings, metafile } = await build({
    metafile: true,
    absWorkingDir: ROOT,
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    legalComments: 'none',
    alias: {
      '#local-storage': join(ROOT, 'src/storage/local/index.ts'),
      '#compress': join(ROOT, 'src/codec/compress.ts'),
      '#decompress': join(ROOT, 'src/codec/decompress.ts'),
    },
    external: ['koffi', '@foxglove/wasm-zstd', 'xz-decompress'],
    define: { 'import.meta.url': '__moduleUrl' },
    banner: { js: "const __moduleUrl=require('node:url').pathToFileURL(__filename).href;" },
    plugins: [withoutChildProcesses],
    logLevel: 'warning',
    ...more,
  });
  if (warnings.length > 0) throw new Error('esbuild printed warnings');
  return Object.keys(metafile.inputs);
}

/** Bundles the program that makes the compiled form. @param {string} file */
export async function bundlePrecompiler(file) {
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/cli/precompile.ts'],
    outfile: file,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    logLevel: 'warning',
  });
}

/** commander loads what starts processes, and with it sockets, for subcommands that are programs. There are none. */
const withoutChildProcesses = {
  name: 'without-child-processes',
  setup(/** @type {import('esbuild').PluginBuild} */ { onResolve, onLoad }) {
    onResolve({ filter: /^(node:)?child_process$/ }, ({ importer }) =>
      importer.includes(join('node_modules', 'commander')) ? { path: 'nothing', namespace: 'nothing' } : undefined,
    );
    onLoad({ filter: /.*/, namespace: 'nothing' }, () => ({ contents: '' }));
  },
};
