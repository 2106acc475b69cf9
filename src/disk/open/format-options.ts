/** Validates format-specific arguments: variants and config keys. */
import { ImageError } from '../../errors.ts';
import { checkConfig } from '../../image/config.ts';
import type { Config, ConfigKey, Format } from '../../image/contract.ts';
import type { Filter } from '../../image/filter.ts';

/** Rejects words the format does not support, and those that contradict each other. */
export function checkVariants(format: Format, words: readonly string[]): void {
  for (const word of words) {
    if (format.variants.some((variant) => variant.word === word)) continue;
    throw new ImageError('invalid-argument', `Format ${format.name} does not have a variant "${word}"`, {
      hint: `Variants: ${format.variants.map((variant) => variant.word).join(', ')}.`,
    });
  }
  const said = format.variants.filter(({ word, allocation }) => allocation !== undefined && words.includes(word));
  const [one] = said;
  const other = said.find(({ allocation }) => allocation !== one?.allocation);
  if (one === undefined || other === undefined) return;
  throw new ImageError('invalid-argument', `An image cannot be both ${one.word} and ${other.word}`, {
    field: 'variant',
    found: words.join(', '),
    hint: 'Choose one of them.',
  });
}

/**
 * Rejects values that the format does not accept; for opening also keys that only new images have. When amending, such
 * keys are accepted: the image compares them with its own values.
 */
export function checkFormatConfig(format: Format, config: Config, purpose: 'create' | 'open' | 'amend'): void {
  const { configKeys } = format;
  const keys =
    purpose === 'amend'
      ? amendOrConfigKeys(format)
      : configKeys.filter(({ createOnly }) => purpose === 'create' || !createOnly);
  const partial = purpose === 'amend';
  checkConfig({ name: `format ${format.name}`, keys, createOnly: configKeys, partial, digits: true }, config);
}

/** Rejects values that the filter does not accept. */
export function checkFilterConfig({ name, configKeys: keys }: Filter, config: Config): void {
  checkConfig({ name: `filter ${name}`, keys }, config);
}

/** Amendable keys and keys for new images. */
export function amendOrConfigKeys({ amendKeys = [], configKeys }: Format): readonly ConfigKey[] {
  return [...amendKeys, ...configKeys.filter(({ name }) => !amendKeys.some((key) => key.name === name))];
}
