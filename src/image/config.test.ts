import { describe, expect, it } from 'vitest';
import { checkConfig, keyWithRole } from './config.ts';
import type { Config, ConfigKey } from './contract.ts';

const key = (name: string, facts: Partial<ConfigKey> = {}): ConfigKey => ({
  ...{
    name,
    valueType: 'string',
    default: null,
    mandatory: false,
    expert: false,
    createOnly: false,
    description: name,
  },
  ...facts,
});
const KEYS = [
  key('grain', { valueType: 'integer', role: 'unit' }),
  key('room', { role: 'preallocation', values: ['off', 'full'] }),
  key('width', { valueType: 'integer', values: [2, 4] }),
  key('secret', { valueType: 'bytes' }),
];
const check = (config: Config, more: object = {}) => checkConfig({ name: 'format toy', keys: KEYS, ...more }, config);
const refused = (context: object) => expect.objectContaining({ kind: 'invalid-argument', ...context });

describe('checkConfig', () => {
  it('accepts values of the type and in the list; what is undefined is left out', () => {
    check({});
    check({ grain: 512, room: 'full', width: 4, secret: Uint8Array.of(1) });
    check({ grain: undefined });
  });

  it('takes whole numbers as text where it is told to', () => {
    check({ grain: '512', width: '4' }, { digits: true });
    expect(() => check({ grain: '512k' }, { digits: true })).toThrow(refused({}));
    expect(() => check({ width: '3' }, { digits: true })).toThrow(refused({}));
    expect(() => check({ room: 1 }, { digits: true })).toThrow(refused({}));
  });

  it.each([
    [{ grain: '512' }, 'string', 'integer'],
    [{ grain: 1.5 }, 'number', 'integer'],
    [{ grain: 2 ** 60 }, 'number', 'integer'],
    [{ room: 1 }, 'integer', 'string'],
    [{ secret: 'x' }, 'string', 'bytes'],
    [{ room: Uint8Array.of(1) }, 'bytes', 'string'],
    [{ room: 'metadata' }, 'metadata', 'off, full'],
    [{ width: 3 }, '3', '2, 4'],
  ])('rejects %j', (config, found, expected) => {
    const [field] = Object.keys(config);
    expect(() => check(config)).toThrow(refused({ context: expect.objectContaining({ field, found, expected }) }));
  });

  it('names the keys that there are, and those for new images', () => {
    const unknown = refused({
      message: 'Format toy has no option "grains"',
      status: 'VERR_VD_UNKNOWN_CFG_VALUES',
      hint: 'Options: grain, room, width, secret.',
    });
    expect(() => check({ grains: 1 })).toThrow(unknown);
    const late = { message: 'Option "late" is for new images only' };
    expect(() => check({ late: 1 }, { createOnly: [key('late')] })).toThrow(refused(late));
    expect(() => check({ x: 1 }, { keys: [] })).toThrow(refused({ hint: 'It takes none.' }));
  });

  it('insists on mandatory keys without a default, unless only some are named', () => {
    const keys = [key('host', { mandatory: true }), key('port', { mandatory: true, default: '3260' })];
    expect(() => check({}, { keys })).toThrow(refused({ message: 'Format toy needs option "host"' }));
    check({ host: 'a' }, { keys });
    check({}, { keys, partial: true });
  });
});

it('keyWithRole finds a key by its purpose', () => {
  expect(keyWithRole(KEYS, 'unit')?.name).toBe('grain');
  expect(keyWithRole(KEYS, 'part')).toBeUndefined();
});
