import { describe, expect, it } from 'vitest';
import { UsageError } from './failure.ts';
import { formatSize, parseCount, parseSize } from './size.ts';

describe('parseSize', () => {
  it.each([
    ['0', 0],
    ['512', 512],
    ['64K', 65_536],
    ['64k', 65_536],
    ['64KiB', 65_536],
    ['10M', 10 * 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    ['0.5K', 512],
    ['2T', 2 ** 41],
    ['1.25T', 1.25 * 2 ** 40],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ])('reads %s', (text, bytes) => {
    expect(parseSize(text, 'SIZE')).toBe(bytes);
  });

  it.each([
    '',
    ' ',
    'K',
    '-1',
    '+1G',
    '1.5',
    '1.3K',
    '1.0000000000000000001G',
    '1e3',
    '0x10',
    '10KB',
    '1 G',
    '1,5G',
    '12Q',
    '9007199254740992',
    '9000P',
    '1'.repeat(30),
  ])('refuses "%s" as wrong usage', (text) => {
    expect(() => parseSize(text, 'SIZE')).toThrow(UsageError);
    expect(() => parseSize(text, 'SIZE')).toThrow(/^SIZE /);
  });
});

describe('parseCount', () => {
  it('takes whole numbers inside the range only', () => {
    const range = { min: 1, max: 64 };
    expect(parseCount('1', '--threads', range)).toBe(1);
    expect(parseCount('64', '--threads', range)).toBe(64);
    for (const text of ['0', '65', '-1', '1.5', 'x', '']) {
      expect(() => parseCount(text, '--threads', range), text).toThrow(UsageError);
    }
  });
});

describe('formatSize', () => {
  it.each([
    [0, '0 bytes'],
    [1, '1 byte'],
    [512, '512 bytes'],
    [1023, '1023 bytes'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [2 ** 20 - 1, '1 MiB'],
    [10 * 2 ** 30, '10 GiB'],
    [123.4 * 2 ** 20, '123.4 MiB'],
    [2 ** 53, '8 PiB'],
  ])('%d is %s', (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });
});
