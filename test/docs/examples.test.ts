/**
 * The programs in the documents, on the built package: each is saved as it stands, in an empty folder with vdkit
 * installed and the sample in it, runs twice, has no type errors, and is plain syntax for the oldest supported Node.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { transform } from 'esbuild';
import ts from 'typescript';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { markdownFiles } from '../../scripts/docs-check.mjs';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';
import { rounds } from '../conformance/random.ts';
import { type Example, examplesOf, Workplace } from './workplace.ts';

/** Programs of pages, which run in a browser: `test/browser/docs.test.ts`. */
const IN_A_PAGE = 'docs/browser.md';
/** The parts of an example that is explained piece by piece: `test/faults/toy.test.ts` runs them together. */
const IN_PIECES = 'docs/crash-testing.md';

/** Parts of the kits of formats, quoted. */
const IN_KITS = 'docs/testing.md';

const ALL = markdownFiles().flatMap((page) => examplesOf(page, '(?:js|mjs)'));
const OLDEST = `node${JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).engines.node.replace('>=', '')}`;
const SAMPLE = readFileSync(join(ROOT, 'samples/disk.vdi'));

/** First words behind a program that say what it prints. */
const PROMISE = /^\s*prints `(.*?)`/;

const titled = (examples: readonly Example[]) =>
  examples.map((example) => [`${example.page}, ${example.heading}, ${example.number}`, example] as const);

beforeAll(() => ensureBuilt(), 120_000);

describe('programs of the documents', () => {
  let place: Workplace;
  beforeEach(() => {
    place = new Workplace();
  });
  afterEach(() => place.remove());

  it.each(titled(ALL.filter(({ page }) => page !== IN_A_PAGE)))('run twice: %s', async (_, example) => {
    const { code, after } = example;
    place.put('example.mjs', code);
    // In the usual run most of them a single time.
    const times = ['first', 'second'].slice(0, ALL.indexOf(example) % rounds(6, 1) === 0 ? 2 : 1);
    for (const time of times) {
      const { stdout, stderr } = await place.node(['example.mjs']);
      expect(stderr, time).toBe('');
      const [, promised] = PROMISE.exec(after) ?? [];
      if (promised !== undefined) expect(stdout, time).toMatch(linesBeginning(promised));
    }
    expect(readFileSync(join(place.folder, 'samples/disk.vdi')).equals(SAMPLE)).toBe(true);
  });

  it('print what the guide says beside each line about queues', async () => {
    const [queues] = ALL.filter(({ heading }) => heading === 'Queues');
    const promised = [...(queues?.code ?? '').matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, text]) => text);
    expect(promised).toEqual(['aborted', '2 1536 7', '0']);
    place.put('example.mjs', queues?.code ?? '');
    expect((await place.node(['example.mjs'])).stdout.trim().split('\n')).toEqual(promised);
  });

  it('show a plugin that opens its images', async () => {
    const [plugin] = ALL.filter(({ page, heading }) => page === 'docs/write-a-format.md' && heading === '1. A module');
    place.put('VDPluginFlat.mjs', plugin?.code ?? '');
    const bytes = new Uint8Array(512 + 4096).fill(5);
    bytes.set(new TextEncoder().encode('FLAT'));
    writeFileSync(join(place.folder, 'a.flat'), bytes);
    await place.vdkit(['--plugin', 'VDPluginFlat.mjs', 'convert', 'a.flat', 'a.raw']);
    expect(readFileSync(join(place.folder, 'a.raw')).equals(new Uint8Array(4096).fill(5))).toBe(true);
    writeFileSync(join(place.folder, 'a.flat'), bytes.subarray(0, 1000));
    await expect(place.vdkit(['--plugin', 'VDPluginFlat.mjs', 'info', 'a.flat'])).rejects.toThrow(/whole sectors/);
  });
});

describe('the code in the documents', () => {
  let place: Workplace;
  beforeAll(() => {
    place = new Workplace();
  });
  afterAll(() => place.remove());

  it('is all tried', () => {
    const others = markdownFiles().filter((page) => examplesOf(page, 'ts').length > 0);
    expect(others).toEqual([IN_PIECES, IN_KITS]);
    expect(ALL.length).toBeGreaterThan(20);
    expect(ALL.filter(({ after }) => PROMISE.test(after)).length).toBeGreaterThanOrEqual(4);
  });

  it('is the code of the kits, where it shows kits', () => {
    const folder = join(ROOT, 'test/formats');
    const kits = readdirSync(folder)
      .filter((name) => name.endsWith('.ts'))
      .map((name) => readFileSync(join(folder, name), 'utf8'));
    const shown = examplesOf(IN_KITS, 'ts');
    expect(shown.length).toBeGreaterThan(0);
    expect(shown.filter(({ code }) => !kits.some((kit) => kit.includes(code.trim())))).toEqual([]);
  });

  it.each(titled(ALL))('is syntax for the oldest Node: %s', async (_, { code }) => {
    expect(await isOldSyntax(code)).toBe(true);
  });

  it('would be found to be too new', async () => {
    expect(await isOldSyntax('await using a = await b();')).toBe(false);
    expect(await isOldSyntax('using a = b();')).toBe(false);
    expect(await isOldSyntax('for await (const a of b) c ??= a;')).toBe(true);
  });

  it('has no type errors', () => {
    const files = ALL.map(({ code }, index) => place.put(`example-${index}.mjs`, code));
    const wrong = place.put('wrong.mjs', "import { Disk } from 'vdkit';\nawait (await Disk.open('a')).reed(0);\n");
    // One program for all of them: most of the time goes into the declarations that they share.
    expect(typeErrors([...files, wrong])).toEqual([expect.stringContaining("'reed' does not exist")]);
  }, 60_000);
});

/** The compiler for that Node has nothing to write out. */
async function isOldSyntax(code: string): Promise<boolean> {
  const [old, latest] = await Promise.all(
    [OLDEST, 'esnext'].map((target) => transform(code, { target, format: 'esm', minifyWhitespace: true })),
  );
  return old?.code === latest?.code;
}

/** Modules in strict mode, except that a page's elements are there. */
function typeErrors(files: readonly string[]): string[] {
  const program = ts.createProgram(files, {
    allowJs: true,
    checkJs: true,
    noEmit: true,
    strict: true,
    strictNullChecks: false,
    skipLibCheck: true,
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ES2022,
    lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.dom.d.ts', 'lib.dom.asynciterable.d.ts'],
    types: ['node'],
    typeRoots: [join(ROOT, 'node_modules/@types')],
  });
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line = file === undefined || start === undefined ? '' : file.text.slice(start).split('\n')[0];
    return `${ts.flattenDiagnosticMessageText(messageText, '\n')}: ${line}`;
  });
}

/** A pattern for output with a line that begins with this text. */
function linesBeginning(text: string): RegExp {
  return new RegExp(`^${text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&')}`, 'm');
}
