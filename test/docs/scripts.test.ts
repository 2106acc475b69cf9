/** The project's own checks notice what they are for. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkFile } from '../../scripts/layering.mjs';
import { ROOT } from '../../scripts/prepare.mjs';
import { spreadsIn } from '../../scripts/spreads.mjs';
import { readSuites, suiteOf } from '../../scripts/suites.mjs';
import { LONGEST } from '../../scripts/test-order.mjs';
import { sourceProblems } from '../../scripts/words-check.mjs';

describe('layering', () => {
  it.each([
    ['src/binary/x.ts', '../storage/contract.ts'],
    ['src/storage/x.ts', '../image/contract.ts'],
    ['src/image/x.ts', '../disk/disk.ts'],
    ['src/image/x.ts', '../blocks/table.ts'],
    ['src/blocks/x.ts', '../formats/vdi/image.ts'],
    ['src/blocks/x.ts', '../disk/disk.ts'],
    ['src/disk/x.ts', '../blocks/table.ts'],
    ['src/formats/vdi/x.ts', '../raw/index.ts'],
    ['src/formats/vdi/x.ts', '../index.ts'],
    ['src/formats/vdi/x.ts', '../../disk/disk.ts'],
    ['src/disk/x.ts', '../formats/vdi/index.ts'],
    ['src/disk/x.ts', '../cli/bin.ts'],
    ['src/disk/x.ts', 'node:fs'],
    ['src/formats/vdi/x.ts', '../../../test/x.ts'],
  ])('%s must not import %s', (file, wanted) => {
    expect(checkFile(file, `import { x } from '${wanted}';`)).toHaveLength(1);
    expect(checkFile(file, `import type { x } from '${wanted}';`)).toHaveLength(1);
    expect(checkFile(file, `const x = await import('${wanted}');`)).toHaveLength(1);
  });

  it.each([
    ['src/formats/vdi/x.ts', '../../image/contract.ts'],
    ['src/formats/vdi/x.ts', '../../blocks/table.ts'],
    ['src/blocks/x.ts', '../image/contract.ts'],
    ['src/formats/vdi/x.ts', './layout.ts'],
    ['src/formats/index.ts', './vdi/index.ts'],
    ['src/disk/x.ts', '../formats/index.ts'],
    ['src/cli/x.ts', '../disk/open.ts'],
    ['src/cli/x.ts', 'node:path'],
    ['src/storage/local/x.ts', 'node:fs'],
  ])('%s may import %s', (file, wanted) => {
    expect(checkFile(file, `import { x } from '${wanted}';`)).toEqual([]);
  });

  it('finds Buffer where a browser would meet it, but not in comments or texts', () => {
    expect(checkFile('src/disk/x.ts', 'const a = 1;\nBuffer.alloc(a);')).toEqual([
      expect.stringContaining('src/disk/x.ts:2'),
    ]);
    expect(checkFile('src/disk/x.ts', "/* Buffer */ const a = 'Buffer'; type B = ArrayBuffer;")).toEqual([]);
    expect(checkFile('src/codec/x.ts', 'Buffer.alloc(1);')).toEqual([]);
  });
});

describe('lists spread into arguments', () => {
  it.each([
    'list.push(...more);',
    'const most = Math.max(0, ...sizes.map(({ length }) => length));',
    'new Thing(...list);',
    'list.push(...(await more()));',
    'String.fromCharCode.apply(null, bytes);',
    'Reflect.apply(call, undefined, list);',
    // The parameter is a list of that name, and not what the function was called with.
    'const f = (list: number[]) => Math.max(...list);',
    'const f = (...list: number[]) => (list: number[]) => Math.max(...list);',
  ])('are found: %s', (text) => {
    expect(spreadsIn('src/x.ts', `\n${text}`)).toEqual([expect.stringContaining('src/x.ts:2')]);
  });

  it.each([
    'const list = [...more, 1];',
    'call({ ...options, more: [...list] });',
    'const f = (...values: number[]) => call(1, ...values);',
    'await disk.snapshots.apply(name);',
  ])('are not: %s', (text) => {
    expect(spreadsIn('src/x.ts', text)).toEqual([]);
  });
});

describe('words', () => {
  it.each([
    ['src/x.ts', "throw new Error('The name is not usable here');", 'not valid'],
    ['src/x.ts', "throw new Error('This is no image');", 'is not a'],
    ['src/x.ts', 'throw new Error(`It lies behind the end of the disk`);', 'beyond the end'],
    ['src/x.ts', 'const a = 1;\n// Opened anew.', 'again'],
    ['src/x.test.ts', "it('is what nobody wants', () => {});", 'no one'],
    ['src/x.test.ts', "it.each([1])('has %s of its own', () => {});", 'separate'],
    ['test/x.test.ts', "describe('what shall be', () => {});", 'must'],
  ])('to avoid are found in %s: %s', (file, text, advice) => {
    expect(sourceProblems(file, text)).toEqual([expect.stringMatching(`^${file}:\\d+: .*${advice}`)]);
  });

  it.each([
    ['src/x.ts', "throw new Error('The name is not valid');"],
    ['src/x.ts', "const kind = 'nobody';"],
    ['src/x.test.ts', "expect(text).toContain('is no image of nobody');"],
  ])('of other kinds are left alone in %s: %s', (file, text) => {
    expect(sourceProblems(file, text)).toEqual([]);
  });
});

it('the test files that begin first are there', () => {
  for (const file of LONGEST) expect(existsSync(join(ROOT, file)), file).toBe(true);
});

describe('suites', () => {
  const TABLE = [
    '| suite | tests | seconds |',
    '|---|---|---|',
    '| one | `src/a/**`, `test/**#a` | 5 |',
    '| rest | `src/*.ts` | 7.5 |',
    '',
    '| other | table | 1 |',
  ].join('\n');

  it('are read from the table', () => {
    expect(readSuites(TABLE).map(({ name, budgetSeconds }) => [name, budgetSeconds])).toEqual([
      ['one', 5],
      ['rest', 7.5],
    ]);
    expect(() => readSuites('no table')).toThrow(/no table/);
    expect(() => readSuites(TABLE.replace('7.5', 'soon'))).toThrow(/incomplete/);
  });

  it('claim tests by path and group, the first row first', () => {
    const suites = readSuites(TABLE);
    const nameOf = (path: string, group = '') => suiteOf(suites, path, group)?.name;
    expect(nameOf('src/a/b/c.test.ts')).toBe('one');
    expect(nameOf('test/x/y.test.ts', 'a')).toBe('one');
    expect(nameOf('test/x/y.test.ts', 'b')).toBeUndefined();
    expect(nameOf('src/x.ts', 'anything')).toBe('rest');
    expect(nameOf('src/b/x.ts')).toBeUndefined();
  });

  it('of this project claim every test', () => {
    expect(suiteOf(readSuites(), 'test/somewhere/new.test.ts', 'group')).toBeDefined();
  });
});
