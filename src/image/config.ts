/** Config keys of formats and filters, and the check of values against them. */
import { ImageError, printable } from '../errors.ts';
import type { Config, ConfigKey, ConfigRole, ConfigValue } from './contract.ts';

/** Keys of a format or a filter, for one purpose. */
export interface ConfigOwner {
  /** For messages: `format vdi`. */
  readonly name: string;
  readonly keys: readonly ConfigKey[];
  /** Keys that only new images accept, for a message that names the reason. */
  readonly createOnly?: readonly ConfigKey[] | undefined;
  /** Existing values stay where none is given, so no key is mandatory. */
  readonly partial?: boolean | undefined;
  /** Whole numbers may be texts of digits, as people type them. Default false. */
  readonly digits?: boolean | undefined;
}

/** The key with this purpose, whatever its name. */
export function keyWithRole(keys: readonly ConfigKey[], role: ConfigRole): ConfigKey | undefined {
  return keys.find((key) => key.role === role);
}

/** Rejects unknown keys, values of another type or outside a closed list, and missing mandatory keys. */
export function checkConfig(owner: ConfigOwner, config: Config): void {
  for (const [name, value] of Object.entries(config)) {
    const key = owner.keys.find((one) => one.name === name);
    if (key === undefined) throw unknownKey(owner, name);
    if (value !== undefined) checkValue(owner, key, value);
  }
  const missing = owner.keys.find(
    ({ mandatory, default: usual, name }) => mandatory && usual === null && !(name in config),
  );
  if (missing === undefined || owner.partial === true) return;
  throw new ImageError('invalid-argument', `${capital(owner.name)} needs option "${missing.name}"`, {
    hint: hintOf(owner),
  });
}

function checkValue(owner: ConfigOwner, { name, valueType, values }: ConfigKey, value: ConfigValue): void {
  const found = typeOf(value);
  const digits = owner.digits === true && valueType === 'integer' && /^\d+$/.test(String(value));
  if (found !== valueType && !(digits && found === 'string')) {
    throw new ImageError('invalid-argument', `Option "${name}" of ${owner.name} has the wrong type`, {
      field: name,
      found,
      expected: valueType,
    });
  }
  if (values === undefined || values.some((one) => one === value || (digits && one === Number(value)))) return;
  throw new ImageError('invalid-argument', `The value of ${name} is not valid`, {
    field: name,
    found: printable(String(value)),
    expected: values.join(', '),
  });
}

function unknownKey(owner: ConfigOwner, name: string): ImageError {
  const late = owner.createOnly?.some((key) => key.name === name) === true;
  const message = late ? `Option "${name}" is for new images only` : `${capital(owner.name)} has no option "${name}"`;
  return new ImageError('invalid-argument', message, { status: 'VERR_VD_UNKNOWN_CFG_VALUES', hint: hintOf(owner) });
}

function hintOf({ keys }: ConfigOwner): string {
  const names = keys.map(({ name }) => name).join(', ');
  return names === '' ? 'It takes none.' : `Options: ${names}.`;
}

function typeOf(value: ConfigValue): ConfigKey['valueType'] | 'number' {
  if (typeof value === 'string') return 'string';
  if (typeof value !== 'number') return 'bytes';
  return Number.isSafeInteger(value) ? 'integer' : 'number';
}

function capital(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}`;
}
