/** Ways to make a VMDK image: its subformats, grains of other sizes, marked zeroes, descriptor keys, and children. */
import { type MakeWay, way } from '../peer-kit.ts';

export const ways: readonly MakeWay[] = [
  way(''),
  ...['fixed', 'split', 'fixed,split', 'esx', 'stream'].map((variant) => way('', { variant })),
  way('', { variant: 'dynamic,esx' }),
  way('grain_size=4096', { variant: 'dynamic,esx' }),
  ...[4096, 131_072, 2_097_152].map((size) => way(`grain_size=${size}`)),
  way('zeroed_grain=on'),
  way('zeroed_grain=on', { variant: 'split' }),
  way('adapter_type=lsilogic'),
  way('adapter_type=legacyESX,hwversion=7'),
  way('', { over: true }),
  way('', { over: true, variant: 'split' }),
  way('', { over: true, variant: 'esx' }),
  way('zeroed_grain=on', { over: true }),
  way('grain_size=4096', { over: true }),
];

/** Ways that differ in the room that they take. */
export const measured: readonly MakeWay[] = [
  way('grain_size=4096'),
  way('grain_size=2097152'),
  way('', { variant: 'split' }),
  way('', { variant: 'dynamic,esx' }),
];
