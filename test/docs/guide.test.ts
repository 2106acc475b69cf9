/** The worked example of the guide's part on queues, on the built package. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import ts from 'typescript';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const GUIDE = readFileSync(join(ROOT, 'docs/guide.md'), 'utf8');

let folder: string;
beforeAll(async () => {
  ensureBuilt();
  // Inside the package, so that `import 'vdkit'` finds it by its own name.
  await mkdir(join(ROOT, '.cache'), { recursive: true });
  folder = mkdtempSync(join(ROOT, '.cache', 'guide-'));
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('the example about queues prints what it says', async () => {
  const section = GUIDE.slice(GUIDE.indexOf('## Queues'));
  const code = /```ts\n([\s\S]*?)```/.exec(section)?.[1] ?? '';
  // What Node 20 does not know yet, such as `await using`, is written out.
  const options = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 };
  const { outputText } = ts.transpileModule(code, { compilerOptions: options });
  writeFileSync(join(folder, 'example.mjs'), outputText);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['example.mjs'], { cwd: folder });
  const promised = [...code.matchAll(/console\.log\(.*\/\/ (.*)$/gm)].map(([, text]) => text);
  expect(promised).toEqual(['aborted', '2 1536 7', '0']);
  expect([stdout.trim().split('\n'), stderr]).toEqual([promised, '']);
});
