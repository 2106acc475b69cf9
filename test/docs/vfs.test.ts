/** The examples of docs/vfs.md print what the page says, on the built package. */
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';

const run = promisify(execFile);
const PAGE = readFileSync(join(ROOT, 'docs/vfs.md'), 'utf8');

describe('docs/vfs.md', () => {
  let folder: string;

  beforeAll(() => {
    ensureBuilt();
    // Inside the package, so that `import 'vdkit'` finds it by its own name.
    mkdirSync(join(ROOT, '.cache'), { recursive: true });
    folder = mkdtempSync(join(ROOT, '.cache', 'vfs-'));
    symlinkSync(join(ROOT, 'samples'), join(folder, 'samples'));
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  /** Runs the first example below a heading. Node 20 has no `await using`: the compiler writes it out. */
  const printed = async (heading: string): Promise<string> => {
    const from = PAGE.indexOf(`## ${heading}\n`);
    expect(from, heading).toBeGreaterThan(0);
    const code = /```js\n([\s\S]*?)```/.exec(PAGE.slice(from))?.[1] ?? '';
    const { default: ts } = await import('typescript');
    const target = ts.ScriptTarget.ES2022;
    const { outputText } = ts.transpileModule(code, { compilerOptions: { target, module: ts.ModuleKind.ESNext } });
    writeFileSync(join(folder, 'example.mjs'), outputText);
    return (await run(process.execPath, ['example.mjs'], { cwd: folder })).stdout.trim();
  };
  const promised = (text: string): string => {
    expect(PAGE).toContain(`prints \`${text}\``);
    return text;
  };

  it('examples do what they say, one after another', async () => {
    expect(await printed('A file')).toBe(promised('world 1011 1048576'));
    expect(await printed('Streams')).toBe(promised('hello world'));
    const lines = (await printed('Partitions, and images inside images')).split('\n');
    expect(lines.at(-1)).toBe('true');
    expect(lines[0]).toMatch(/^mbr 1 \d+ \d+ \S/);
    expect(await printed('Foreign handles and streams')).toBe(promised('1048576'));
  });
});
