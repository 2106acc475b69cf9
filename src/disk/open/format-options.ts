/** Checks of what callers say in a format's own words: variants and config keys. */
import { ImageError } from '../../errors.ts';
import type { ConfigKey, Format } from '../../image/contract.ts';
import type { Filter, FilterConfig } from '../../image/filter.ts';
import type { Config } from '../options.ts';

/** Refuses words that the format does not know. */
export function checkVariants(format: Format, words: readonly string[]): void {
  for (const word of words) {
    if (format.variants.some((variant) => variant.word === word)) continue;
    throw new ImageError('invalid-argument', `Format ${format.name} has no variant "${word}"`, {
      hint: `Variants: ${format.variants.map((variant) => variant.word).join(', ')}.`,
    });
  }
}

/**
 * Refuses keys that the format does not know, and for opening those that only a new image can have. Of an image that is
 * amended they may be named: it knows its own value, and what to say.
 */
export function checkConfig(format: Format, config: Config, wantedFor: 'create' | 'open' | 'amend'): void {
  const known =
    wantedFor === 'amend'
      ? amendOrConfigKeys(format)
      : format.configKeys.filter(({ createOnly }) => wantedFor === 'create' || !createOnly);
  for (const key of Object.keys(config)) {
    if (known.some(({ name }) => name === key)) continue;
    const other = format.configKeys.some(({ name }) => name === key);
    const names = known.map(({ name }) => name).join(', ');
    throw new ImageError(
      'invalid-argument',
      other ? `Option "${key}" is for new images only` : `Format ${format.name} has no option "${key}"`,
      { status: 'VERR_VD_UNKNOWN_CFG_VALUES', hint: names === '' ? 'It takes none.' : `Options: ${names}.` },
    );
  }
}

/** Refuses keys that the filter does not know, values of another type, and that a mandatory one is missing. */
export function checkFilterConfig({ name, configKeys }: Filter, config: FilterConfig): void {
  const names = configKeys.map((key) => key.name).join(', ');
  const hint = names === '' ? 'It takes none.' : `Options: ${names}.`;
  for (const [key, value] of Object.entries(config)) {
    const known = configKeys.find((one) => one.name === key);
    if (known === undefined) {
      throw new ImageError('invalid-argument', `Filter ${name} has no option "${key}"`, {
        status: 'VERR_VD_UNKNOWN_CFG_VALUES',
        hint,
      });
    }
    if (typeOf(value) === known.valueType) continue;
    throw new ImageError('invalid-argument', `Option "${key}" of filter ${name} is of another type`, {
      field: key,
      found: typeOf(value),
      expected: known.valueType,
    });
  }
  const missing = configKeys.find((key) => key.mandatory && key.default === null && !(key.name in config));
  if (missing === undefined) return;
  throw new ImageError('invalid-argument', `Filter ${name} needs option "${missing.name}"`, { hint });
}

function typeOf(value: string | number | Uint8Array): ConfigKey['valueType'] | 'number' {
  if (typeof value === 'string') return 'string';
  if (typeof value !== 'number') return 'bytes';
  return Number.isSafeInteger(value) ? 'integer' : 'number';
}

/** Keys that can be changed, and those for new images only. */
export function amendOrConfigKeys({ amendKeys = [], configKeys }: Format): readonly ConfigKey[] {
  return [...amendKeys, ...configKeys.filter(({ name }) => !amendKeys.some((key) => key.name === name))];
}
