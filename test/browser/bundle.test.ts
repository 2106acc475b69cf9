/** The built package, as a web program's bundler takes it, has nothing of Node in it. */
import { builtinModules } from 'node:module';
import { beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt } from '../../scripts/prepare.mjs';
import { type Bundle, bundleForPage } from './bundle.ts';

const EVERYTHING = [
  'vdkit',
  'vdkit/storage',
  'vdkit/formats/vdi',
  'vdkit/formats/qcow2',
  'vdkit/formats/raw',
  'vdkit/testing',
];
const EXPORTS = EVERYTHING.map((name, index) => `export * as part${index} from '${name}';`).join('\n');
/** Decoders of compressed images, a checksum, and a parser. */
const LIBRARIES = ['fflate', 'zstddec', '@noble/hashes', '@rgrove/parse-xml', 'xz-decompress'];
/** The name of a library at the start of a path. */
const IN_MODULES = /^node_modules\/(?:@[^/]+\/)?[^/]+/;

describe('bundle for a browser', () => {
  let whole: Bundle;

  beforeAll(async () => {
    ensureBuilt();
    whole = await bundleForPage(EXPORTS);
  });

  it('holds the library, and its stand-in for local files', () => {
    expect(whole.inputs).toContain('dist/index.js');
    expect(whole.inputs).toContain('dist/storage/local.browser.js');
  });

  it('is of the package and its libraries alone: no module of Node, no other dependency', () => {
    expect(whole.externals).toEqual([]);
    const others = whole.inputs.filter(
      (name) => !name.startsWith('dist/') && name !== 'page.mjs' && !name.startsWith('(disabled):'),
    );
    expect(new Set(others.map((name) => IN_MODULES.exec(name)?.[0] ?? name))).toEqual(
      new Set(LIBRARIES.map((name) => `node_modules/${name}`)),
    );
    expect(whole.inputs.filter((name) => name.startsWith('dist/storage/local/'))).toEqual([]);
  });

  it('asks for nothing that only Node has', async () => {
    // One decoder uses Buffer where there is no fetch, which is never so in a page; the checksum has a method named process.
    const own = await bundleForPage(EXPORTS, LIBRARIES);
    expect(nodeThingsIn(own.code)).toEqual([]);
  });

  it('would be seen to ask for it', async () => {
    const needy =
      "import { readFileSync } from 'node:fs'; export const read = () => Buffer.from(readFileSync(process.argv[2]));";
    await expect(bundleForPage(needy)).rejects.toThrow(/node:fs/);
    expect(nodeThingsIn(needy)).toEqual(["'node:fs'", 'Buffer', 'process']);
    expect(nodeThingsIn('const a = require("fs"), b = globalThis.Buffer, c = new ArrayBuffer(1);')).toEqual([
      'require',
    ]);
  });
});

/** Modules of Node, and globals of Node that are used without asking whether they are there. */
function nodeThingsIn(code: string): string[] {
  const bare = code.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '');
  const modules = [...bare.matchAll(/(?:from|import|import\(|require\()\s*(['"][\w:/]+['"])/g)]
    .map((match) => match[1] ?? '')
    .filter((name) => name.includes('node:') || builtinModules.includes(name.slice(1, -1)));
  const globals = [...bare.matchAll(/(?<![\w$.'"`-])(Buffer|process|require|__dirname|setImmediate)(?=[.([])/g)];
  return [...modules.filter((name) => name.includes('node:')), ...new Set(globals.map((match) => match[1] ?? ''))];
}
