/** Bochs: redologs. */
import type { ProbeInput } from '../../image/contract.ts';
import { fieldAt, u32At } from './look.ts';
import { type Recognised, recognisedFormat } from './recognise.ts';

/** Bochs, iodev/hdimage/hdimage.h: standard_header_t. */
const MAGIC = { offset: 0, size: 32, text: 'Bochs Virtual HD Image' } as const;
const TYPE = { offset: 32, size: 16, text: 'Redolog' } as const;
const SUBTYPE = { offset: 48, size: 16 } as const;
const VERSION = 64;

/** The growing disks of Bochs, recognised only. */
export const bochs = recognisedFormat({
  name: 'bochs',
  title: 'Bochs Redolog',
  label: 'Bochs',
  extensions: [],
  recognise,
});

function recognise({ head }: ProbeInput): Recognised | null {
  const version = u32At(head, VERSION, 'little');
  if (fieldAt(head, MAGIC.offset, MAGIC.size) !== MAGIC.text || version === null) return null;
  const redolog = fieldAt(head, TYPE.offset, TYPE.size) === TYPE.text;
  const subtype = /^\w{1,15}$/.exec(fieldAt(head, SUBTYPE.offset, SUBTYPE.size) ?? '')?.[0] ?? 'unknown';
  const detail = `Bochs ${subtype.toLowerCase()} redolog version ${version >>> 16}.${version & 0xffff}`;
  return { match: redolog ? 'yes' : 'maybe', reason: `the signature ${MAGIC.text}`, detail };
}
