/** Conformance of every format in a page: the same cases as `test/conformance`, over memory and over Blobs. */
import { execFile } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';
import { VIEW_KINDS } from '../conformance/views.ts';
import { describeWithPeers } from '../peers/peers.ts';
import { bundleCases } from './bundle.ts';
import { type Browser, callInPage, startChromium } from './chromium.ts';
import type { CaseResult } from './page.ts';

const run = promisify(execFile);

describeWithPeers(['chromium'], 'browser: conformance', () => {
  let browser: Browser;
  let results: CaseResult[];
  let inNode: string[][];

  beforeAll(async () => {
    const starting = startChromium();
    const bundle = await bundleCases('browser');
    browser = await starting;
    const page = await browser.open(bundle.code);
    [results, inNode] = await Promise.all([callInPage<CaseResult[]>(page, 'runCases'), casesInNode()]);
    console.log(
      `browser: ${results.filter(({ state }) => state === 'pass').length} cases passed in Chromium ${browser.version}`,
    );
  }, 120_000);
  afterAll(() => browser?.close());

  it('passes every case', () => {
    const failed = results.filter(({ state }) => state === 'fail');
    expect(failed.map(({ path, message }) => `${path.join(' > ')}: ${message}`).join('\n\n')).toBe('');
  });

  it.each(['memory', 'blob'])('leaves out no case over %s that Node runs over memory', (kind) => {
    const wanted = inNode.flatMap((path) => caseOver('memory', path));
    expect(wanted.length).toBeGreaterThan(50);
    const done = results.filter(({ state }) => state !== 'skip').flatMap(({ path }) => caseOver(kind, path));
    expect(done.sort()).toEqual(wanted.sort());
  });

  it('knows where each case belongs', () => {
    const kinds = new Map<string, number>();
    for (const { path } of results.filter(({ state }) => state !== 'skip')) {
      const over = ['memory', 'blob'].find((one) => caseOver(one, path).length > 0);
      const view = VIEW_KINDS.some(({ name }) => caseOver(name, path).length > 0);
      const kind = over ?? (view ? 'view' : 'none');
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    }
    expect([...kinds.keys()].sort()).toEqual(['blob', 'memory', 'view']);
    expect(kinds.get('blob')).toBe(kinds.get('memory'));
  });
});

/** The case's name without its storage; nothing when it is about another one. */
function caseOver(kind: string, path: readonly string[]): string[] {
  // Whether a value in a title stands in quotes is a matter of vitest's version.
  const titles = [`over ${kind}`, `storage: ${kind}`];
  const at = path.findIndex((title) => titles.includes(title.replaceAll("'", '')));
  return at < 0 ? [] : [path.with(at, 'storage').join(' > ')];
}

/** Cases that Node would run, listed by a separate process: its runner must not meet the one of this test. */
async function casesInNode(): Promise<string[][]> {
  const folder = join(ROOT, '.cache', `browser-${process.pid}`);
  const file = join(folder, 'cases.mjs');
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(file, (await bundleCases('node')).code);
    const script = `import(${JSON.stringify(pathToFileURL(file).href)})
      .then(({ listCases }) => listCases()).then((cases) => console.log(JSON.stringify(cases)))`;
    const { stdout } = await run(process.execPath, ['-e', script], { maxBuffer: 16 * 1024 * 1024 });
    return JSON.parse(stdout);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
