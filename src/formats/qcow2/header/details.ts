/** Further facts of a QCOW2 image, for reports: feature bits, table sizes, encryption. */
import { printable } from '../../../errors.ts';
import type { ImageInfo } from '../../../image/contract.ts';
import type { Storage } from '../../../storage/contract.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Bitmap } from '../bitmaps/bitmaps.ts';
import {
  AUTOCLEAR,
  COMPATIBLE,
  CRYPT,
  ENTRY_BYTES,
  FEATURE_KIND,
  INCOMPATIBLE,
  LUKS,
  LUKS_MAGIC,
  VERSION_3,
} from '../layout.ts';
import type { Snapshot } from '../snapshots/snapshots.ts';
import type { Qcow2Header } from './header.ts';

/** Cipher of QEMU's old encryption: AES-128 in CBC mode. */
const AES = 'aes-cbc-plain64';

type Bits = Readonly<Record<string, bigint>>;

/** Names of feature bits: those of the specification. */
const NAMES: Readonly<Record<keyof typeof FEATURE_KIND, Bits>> = {
  incompatible: {
    dirty: INCOMPATIBLE.dirty,
    corrupt: INCOMPATIBLE.corrupt,
    'external data file': INCOMPATIBLE.dataFile,
    'compression type': INCOMPATIBLE.compression,
    'extended L2 entries': INCOMPATIBLE.extendedL2,
  },
  compatible: { 'lazy refcounts': COMPATIBLE.lazyRefcounts },
  autoclear: { bitmaps: AUTOCLEAR.bitmaps, 'raw external data': AUTOCLEAR.dataFileRaw },
};

/** Parts of an image that its details come from. */
export interface DetailedParts {
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly bitmaps: readonly Bitmap[];
}

/** Facts of the image that reports have no other place for. */
export function detailsOf({ header, snapshots, bitmaps }: DetailedParts): NonNullable<ImageInfo['details']> {
  const { version, refcountOrder, compatible, incompatible, extendedL2, compression } = header;
  const features = (['incompatible', 'compatible', 'autoclear'] as const)
    .map((kind) => [`${kind} features`, featureNames(header, kind)] as const)
    .filter(([, names]) => names !== '');
  return {
    compatibility: version === VERSION_3 ? '1.1' : '0.10',
    'refcount bits': 2 ** refcountOrder,
    'lazy refcounts': (compatible & COMPATIBLE.lazyRefcounts) !== 0n,
    'extended L2': extendedL2,
    'compression type': compression,
    corrupt: (incompatible & INCOMPATIBLE.corrupt) !== 0n,
    ...Object.fromEntries(features),
    ...tableSizes(header, snapshots, bitmaps),
  };
}

/** Bytes of tables that snapshots and bitmaps have beside those of the disk. */
function tableSizes(
  { bitmaps: directory }: Qcow2Header,
  snapshots: DetailedParts['snapshots'],
  bitmaps: DetailedParts['bitmaps'],
): Record<string, number> {
  const l1Entries = snapshots.reduce((sum, one) => sum + one.l1Entries, 0);
  const tableEntries = bitmaps.reduce((sum, one) => sum + one.tableEntries, 0);
  return {
    ...(snapshots.length === 0 ? {} : { 'snapshot L1 bytes': l1Entries * ENTRY_BYTES }),
    ...(bitmaps.length === 0 ? {} : { 'bitmap table bytes': tableEntries * ENTRY_BYTES }),
    ...(directory === null ? {} : { 'bitmap directory bytes': directory.directoryBytes }),
  };
}

/** Names of the bits that are set: those of the specification, those that the image gives, or numbers. */
function featureNames(header: Qcow2Header, kind: keyof typeof FEATURE_KIND): string {
  const word = header[kind];
  if (word === 0n) return '';
  const bits = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => (word & (1n << BigInt(bit))) !== 0n);
  return bits.map((bit) => featureName(header, kind, bit)).join(', ');
}

function featureName({ featureNames: given }: Qcow2Header, kind: keyof typeof FEATURE_KIND, bit: number): string {
  const known = Object.entries(NAMES[kind]).find(([, mask]) => mask === 1n << BigInt(bit));
  if (known !== undefined) return known[0];
  const named = given.find((one) => one.kind === FEATURE_KIND[kind] && one.bit === bit);
  return named === undefined ? `bit ${bit}` : `"${printable(named.name)}" (bit ${bit})`;
}

/** Cipher and mode of an encrypted image: for LUKS as its header has them. Null: not encrypted. */
export async function encryptionOf(storage: Storage, header: Qcow2Header): Promise<string | null> {
  const { cryptMethod, encryption } = header;
  if (cryptMethod === CRYPT.none) return null;
  if (cryptMethod === CRYPT.aes || encryption === null) return AES;
  const luks = new Uint8Array(LUKS.size);
  if (encryption.offset + luks.length <= storage.size) await readPadded(storage, encryption.offset, luks);
  const { magic, cipher, mode } = LUKS.decode(luks);
  return magic === LUKS_MAGIC && cipher !== '' ? `luks ${cipher}-${mode}` : 'luks';
}
