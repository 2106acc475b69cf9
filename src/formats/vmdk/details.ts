/** Further facts of a VMDK image, for reports: those of the descriptor, its extents, and unknown entries of the database. */
import { SECTOR } from '../../binary/numbers.ts';
import { printable } from '../../errors.ts';
import type { ImageInfo } from '../../image/contract.ts';
import type { ExtentLine } from './descriptor/extents.ts';
import { GEOMETRY_KEYS, KEYS } from './descriptor/facts.ts';
import type { DescriptorText } from './descriptor/text.ts';

type Details = NonNullable<ImageInfo['details']>;

/** Rows of a report, with the keys whose values they have. */
const ROWS = {
  'create type': KEYS.createType,
  CID: KEYS.cid,
  'parent CID': KEYS.parentCid,
  'long content ID': KEYS.longContentId,
  encoding: KEYS.encoding,
  'adapter type': KEYS.adapterType,
  'hardware version': KEYS.hardwareVersion,
  'tools version': KEYS.toolsVersion,
  'change tracking file': KEYS.changeTracking,
} as const;

/** Keys of the database that reports have other places for. */
const KNOWN: ReadonlySet<string> = new Set(
  [...Object.values(KEYS), ...GEOMETRY_KEYS.physical, ...GEOMETRY_KEYS.logical].map((key) => key.toLowerCase()),
);

/** Facts that reports have no other place for. `text`: null for an extent without a descriptor. */
export function detailsOf(text: DescriptorText | null, lines: readonly ExtentLine[]): Details {
  const rows = Object.entries(ROWS).map(([row, key]) => [row, text?.value(key) ?? null] as const);
  const others = (text?.database ?? []).filter(([key]) => !KNOWN.has(key.toLowerCase()));
  return {
    ...Object.fromEntries(rows.flatMap(([row, value]) => (value === null ? [] : [[row, printable(value)]]))),
    extents: lines.length,
    ...Object.fromEntries(lines.map((line, index) => [`extent ${index + 1}`, describeLine(line)])),
    ...Object.fromEntries(others.map(([key, value]) => [printable(key), printable(value)])),
  };
}

function describeLine({ access, type, sectors, file, offset }: ExtentLine): string {
  const place = file === null ? '' : `, ${printable(file)}`;
  return `${type} ${access}, ${sectors * SECTOR} bytes${place}${offset === 0 ? '' : ` from ${offset * SECTOR} on`}`;
}
