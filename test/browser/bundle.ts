/** Bundles for a page, made as a web program's bundler makes them. */
import { join } from 'node:path';
import { type BuildOptions, build, type Plugin } from 'esbuild';
import { ROOT } from '../../scripts/prepare.mjs';

/** A bundle, and what went into it. */
export interface Bundle {
  readonly code: string;
  /** Files, relative to the package. */
  readonly inputs: readonly string[];
  /** Modules that the bundle asks for when it runs. */
  readonly externals: readonly string[];
}

/** A module that uses the built package under its own name, for a page; some packages may be left outside. */
export function bundleForPage(contents: string, external: readonly string[] = []): Promise<Bundle> {
  const stdin = { contents, resolveDir: ROOT, sourcefile: 'page.mjs' };
  return bundle({ platform: 'browser', stdin, external: [...external] });
}

/** The conformance suite, over the sources: with the page's storages for a page, with Node's for Node. */
export function bundleCases(platform: 'browser' | 'node'): Promise<Bundle> {
  const inPage = platform === 'browser';
  const localStorage = inPage ? 'src/storage/local.browser.ts' : 'src/storage/local/index.ts';
  return bundle({
    platform,
    entryPoints: [join(ROOT, 'test/browser/page.ts')],
    // Loaded when they are needed, by the package itself.
    external: inPage ? [] : ['koffi', '@foxglove/wasm-zstd'],
    alias: {
      vitest: join(ROOT, 'test/browser/vitest-in-page.ts'),
      '#local-storage': join(ROOT, localStorage),
      '#compress': join(ROOT, `src/codec/compress${inPage ? '.browser' : ''}.ts`),
      '#decompress': join(ROOT, `src/codec/decompress${inPage ? '.browser' : ''}.ts`),
    },
    define: inPage ? { 'process.env.VDKIT_LONG': JSON.stringify(process.env['VDKIT_LONG'] ?? '') } : {},
    plugins: inPage ? [pageStorages] : [],
  });
}

const pageStorages: Plugin = {
  name: 'storages of a page',
  setup({ onResolve }) {
    onResolve({ filter: /\/storages\.ts$/ }, () => ({ path: join(ROOT, 'test/browser/storages.ts') }));
  },
};

async function bundle(options: BuildOptions): Promise<Bundle> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: ROOT,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    target: 'es2022',
    logLevel: 'silent',
    ...options,
  });
  const imports = Object.values(metafile?.outputs ?? {}).flatMap((output) => output.imports);
  return {
    code: outputFiles?.[0]?.text ?? '',
    inputs: Object.keys(metafile?.inputs ?? {}),
    externals: imports.filter(({ external }) => external === true).map(({ path }) => path),
  };
}
