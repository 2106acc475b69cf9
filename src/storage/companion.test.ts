import { describe, expect, it } from 'vitest';
import { companionName, NAME_MAX, shortened } from './companion.ts';

const bytesIn = (name: string): number => new TextEncoder().encode(name).length;

describe('the name of a file beside an image', () => {
  it('is that of the image with a suffix, while the file system can hold it', () => {
    expect(companionName('/a/disk.vdi', '.vdkit-lock')).toBe('/a/disk.vdi.vdkit-lock');
    const longest = `/a/${'n'.repeat(NAME_MAX - '.vdkit-lock'.length)}`;
    expect(companionName(longest, '.vdkit-lock')).toBe(`${longest}.vdkit-lock`);
  });

  it.each([
    ['one byte too many', 'n'.repeat(NAME_MAX - '.vdkit-filters'.length + 1)],
    ['the longest name', 'n'.repeat(NAME_MAX)],
    ['characters of several bytes', '\u{1f4be}'.repeat(63)],
  ])('is shortened to what fits: %s', (_, base) => {
    const name = companionName(`/a/${base}`, '.vdkit-filters');
    expect(name.startsWith('/a/')).toBe(true);
    expect(name.endsWith('.vdkit-filters')).toBe(true);
    expect(bytesIn(name.slice('/a/'.length))).toBeLessThanOrEqual(NAME_MAX);
    expect(companionName(`/a/${base}`, '.vdkit-filters')).toBe(name);
  });

  it('differs for names that begin alike', () => {
    const start = 'n'.repeat(NAME_MAX - 1);
    expect(companionName(`${start}a`, '.vdkit-merge')).not.toBe(companionName(`${start}b`, '.vdkit-merge'));
  });

  it('can itself have a companion', () => {
    const lock = companionName('n'.repeat(NAME_MAX), '.vdkit-lock');
    expect(bytesIn(companionName(companionName(lock, '.takeover'), '.takeover'))).toBeLessThanOrEqual(NAME_MAX);
  });
});

it('shortens to whole characters', () => {
  expect(shortened('a\u{1f4be}b', 4)).toBe('a');
  expect(shortened('a\u{1f4be}b', 5)).toBe('a\u{1f4be}');
  expect(shortened('a', -1)).toBe('');
});
