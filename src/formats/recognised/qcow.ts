/** QCOW and QCOW2 share a magic; only the version tells them apart. */

import { u32At } from '../../binary/look.ts';
import type { ProbeInput } from '../../image/contract.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** The qcow2 specification of QEMU, "Header": "QFI\xfb". */
const MAGIC = 0x5146_49fb;
const VERSION = 4;

/** QEMU's first copy-on-write format, recognised only. */
export const qcow = recognisedFormat({
  name: 'qcow',
  title: 'QEMU Copy-On-Write, version 1',
  label: 'QCOW',
  extensions: ['qcow'],
  recognise: (input) => withVersion(input, 'QCOW', (version) => version === 1),
});

function withVersion({ head }: ProbeInput, name: string, mine: (version: number) => boolean): Recognised | null {
  const version = u32At(head, VERSION, 'big');
  if (u32At(head, 0, 'big') !== MAGIC || version === null || !mine(version)) return null;
  return { match: 'yes', reason: `the ${name} signature QFI\\xfb`, detail: `${name} version ${version}` };
}
