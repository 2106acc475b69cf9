import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseKeyValue, splitLines, splitWords } from './text.ts';

const BOUNDS = { lines: 100, lineLength: 200 };

function textsOf(text: string, bounds = BOUNDS): string[] {
  return splitLines(text, bounds).lines.map((line) => line.text);
}

describe('splitLines', () => {
  it('takes every kind of line end, leaves empty lines out, and counts as editors do', () => {
    expect(splitLines('# one\r\n\n  two \rthree\0\0', BOUNDS)).toEqual({
      lines: [
        { number: 1, text: '# one' },
        { number: 3, text: 'two' },
        { number: 4, text: 'three' },
      ],
      isCut: false,
    });
  });

  it('stops at its bounds, and says so', () => {
    expect(textsOf('a\nb\nc', { lines: 2, lineLength: 9 })).toEqual(['a', 'b']);
    expect(splitLines('a\nb\nc', { lines: 2, lineLength: 9 }).isCut).toBe(true);
    expect(splitLines('a\nb', { lines: 2, lineLength: 9 }).isCut).toBe(false);
    expect(splitLines(`${'x'.repeat(10)}\nb`, { lines: 2, lineLength: 9 })).toMatchObject({
      lines: [{ number: 2, text: 'b' }],
      isCut: true,
    });
    expect(splitLines(`${'x'.repeat(9)}\nb`, { lines: 2, lineLength: 9 }).isCut).toBe(false);
  });
});

describe('parseKeyValue', () => {
  it.each([
    ['CID=fffffffe', 'CID', 'fffffffe'],
    ['createType="monolithicSparse"', 'createType', 'monolithicSparse'],
    ['ddb.virtualHWVersion = "4"', 'ddb.virtualHWVersion', '4'],
    ['ddb.comment=""', 'ddb.comment', ''],
    ['a = b = c', 'a', 'b = c'],
    ['hint="C:\\a b.vmdk"  # why', 'hint', 'C:\\a b.vmdk'],
    ['key=', 'key', ''],
  ])('reads %s', (line, key, value) => {
    expect(parseKeyValue(line)).toEqual({ key, value });
  });

  it.each(['RW 4192256 SPARSE "disk.vmdk"', '= value', '', 'key="no end'])('gives null for %j', (line) => {
    expect(parseKeyValue(line)).toBeNull();
  });
});

describe('splitWords', () => {
  it('takes quotes off', () => {
    expect(splitWords('RW 4192256\tSPARSE "my [1] disk\'s.vmdk"  0')).toEqual([
      'RW',
      '4192256',
      'SPARSE',
      "my [1] disk's.vmdk",
      '0',
    ]);
    expect(splitWords('FILE "" BINARY')).toEqual(['FILE', '', 'BINARY']);
  });

  it('follows the rules of a shell, where the format has them', () => {
    const rules = { quotes: '"\'', escapes: true };
    expect(splitWords(String.raw`/a\ b='c\ d'"e\"f" g`, rules)).toEqual([String.raw`/a b=c\ de"f`, 'g']);
    expect(splitWords('a\\', rules)).toBeNull();
  });

  it('gives null for a quoted word without an end, and for too many words', () => {
    expect(splitWords('a "b c')).toBeNull();
    expect(splitWords('a b c', { words: 2 })).toBeNull();
    expect(splitWords('a b ', { words: 2 })).toEqual(['a', 'b']);
  });

  it('finds every word again, however it is quoted', () => {
    const word = fc.stringMatching(/^[^"\n\r\0]*$/);
    fc.assert(
      fc.property(fc.array(word, { maxLength: 10 }), (words) => {
        expect(splitWords(words.map((one) => `"${one}"`).join('  '))).toEqual(words);
      }),
    );
  });
});

describe('every text', () => {
  it('is read without a failure, and within its bounds', () => {
    const text = fc.string({
      unit: fc.constantFrom('"', "'", '\\', '=', ' ', '\n', '\r', '\0', 'a', '\ud800'),
      maxLength: 60,
    });
    fc.assert(
      fc.property(text, (one) => {
        const { lines } = splitLines(one, { lines: 5, lineLength: 20 });
        expect(lines.length).toBeLessThanOrEqual(5);
        for (const { text: line } of lines) {
          expect(line.length).toBeLessThanOrEqual(20);
          parseKeyValue(line);
          const words = splitWords(line, { quotes: '"\'', escapes: true, words: 3 });
          expect(words === null || words.length <= 3).toBe(true);
        }
      }),
    );
  });
});
