/** Plan of an amendment: the caller's options, checked against the image. No I/O here. */
import { type ErrorKind, ImageError, printable } from '../../../errors.ts';
import type { Config } from '../../../image/contract.ts';
import { BACKING_FILE, BACKING_FORMAT, CONFIG, WORDS } from '../config.ts';
import { flag, powerOfTwo, word } from '../config-values.ts';
import { featureNames } from '../create.ts';
import { encodeFormat } from '../header/backing-format.ts';
import { isRawDataFile } from '../header/describe.ts';
import { withExtension } from '../header/extensions.ts';
import { type Qcow2Header, serializeHeader } from '../header/header.ts';
import {
  AUTOCLEAR,
  BACKING_FORMAT_MAX,
  BACKING_NAME_MAX,
  COMPATIBLE,
  EXTENSION_TYPE,
  HEADER,
  HEADER_LENGTH_2,
  INCOMPATIBLE,
  REFCOUNT_ORDER_2,
  VERSION_2,
  VERSION_3,
} from '../layout.ts';
import type { Snapshot } from '../snapshots/snapshots.ts';

/** Values by the names of options. */
export type AmendValues = Config;

/** Result of checking the options. */
export interface AmendPlan {
  readonly version: 2 | 3;
  readonly refcountOrder: number;
  /** The new header, except for the width of refcounts. */
  readonly header: (now: Qcow2Header) => Qcow2Header;
  readonly changesHeader: boolean;
  /** Permitted only for an image without compressed clusters. */
  readonly otherCompression: boolean;
}

/** Facts about the image that limit the possible changes. */
export interface AmendFacts {
  readonly header: Qcow2Header;
  readonly snapshots: readonly Snapshot[];
  readonly path: string;
}

/** QEMU's feature names need more space than small header clusters have. */
const NAMES_FROM_CLUSTER = 4096;
const VM_STATE_2 = 2 ** 32;
/** Characters not permitted in names. */
const CONTROL = /\p{Cc}/u;

/** Checks the options. Throws `invalid-argument` for meaningless values, `unsupported` for impossible changes. */
export function planAmend(facts: AmendFacts, values: AmendValues): AmendPlan {
  const { header } = facts;
  refuseFixed(facts, values);
  const version = wantedVersion(header, values);
  const bits = powerOfTwo(values, CONFIG.refcountBits, 2 ** header.refcountOrder, 1, 64);
  const lazy = has(values, CONFIG.lazyRefcounts)
    ? flag(values, CONFIG.lazyRefcounts)
    : version === VERSION_3 && (header.compatible & COMPATIBLE.lazyRefcounts) !== 0n;
  // An image that becomes version 2 has no other compression; whether it can is found out from its clusters.
  const compression =
    version === VERSION_2 && !has(values, CONFIG.compressionType)
      ? 'zlib'
      : word(values, CONFIG.compressionType, WORDS.compression, header.compression);
  if (version === VERSION_2) refuseInVersion2(facts, { bits, lazy, compression });
  if (version < header.version) refuseDowngrade(facts);
  const dataFile = wantedDataFile(facts, values);
  const backing = wantedBacking(facts, values);
  const apply = (now: Qcow2Header): Qcow2Header =>
    withVersion(withNames(withFeatures(now, { lazy, compression }), { ...dataFile, ...backing }), version);
  const wanted = apply(header);
  // Refuses what does not fit into the cluster.
  const made = serializeHeader(wanted);
  const before = serializeHeader(header);
  return {
    version,
    refcountOrder: Math.log2(bits),
    header: apply,
    changesHeader: made.some((byte, at) => byte !== before[at]),
    otherCompression: compression !== header.compression,
  };
}

function has(values: AmendValues, key: string): boolean {
  return values[key] !== undefined;
}

/** Options of new images: the current value counts as no change. */
function refuseFixed({ header, path }: AmendFacts, values: AmendValues): void {
  const size = powerOfTwo(values, CONFIG.clusterSize, header.clusterSize, 1, 2 ** 53);
  const extended = has(values, CONFIG.extendedL2) ? flag(values, CONFIG.extendedL2) : header.extendedL2;
  const fixed: readonly (readonly [key: string, found: string, same: boolean])[] = [
    [CONFIG.clusterSize, String(header.clusterSize), size === header.clusterSize],
    [CONFIG.extendedL2, header.extendedL2 ? 'on' : 'off', extended === header.extendedL2],
    [CONFIG.preallocation, 'an image that exists', !has(values, CONFIG.preallocation)],
  ];
  const [key, found] = fixed.find(([, , same]) => !same) ?? [];
  if (key === undefined || found === undefined) return;
  throw new ImageError('unsupported', `Option "${key}" cannot be changed in an existing image`, {
    path,
    field: key,
    found,
    expected: printable(String(values[key])),
    hint: 'Convert the image to a new one.',
  });
}

function wantedVersion(header: Qcow2Header, values: AmendValues): 2 | 3 {
  const now = header.version === VERSION_2 ? '0.10' : '1.1';
  const compat = word(values, CONFIG.compat, ['1.1', '0.10', 'v3', 'v2'], now);
  return compat === '0.10' || compat === 'v2' ? VERSION_2 : VERSION_3;
}

/** Features that exist only in version 3. */
function refuseInVersion2(
  { header, path }: AmendFacts,
  wanted: { readonly bits: number; readonly lazy: boolean; readonly compression: 'zlib' | 'zstd' },
): void {
  const keeps = header.version === VERSION_2;
  const hint = (other: string): string => (keeps ? `Add ${CONFIG.compat}=1.1.` : `Add ${other}, or keep version 3.`);
  const refused: readonly (readonly [is: boolean, key: string, message: string, found: string, hint: string])[] = [
    [
      wanted.bits !== 2 ** REFCOUNT_ORDER_2,
      CONFIG.refcountBits,
      'Version 2 supports refcounts of 16 bits only',
      String(wanted.bits),
      hint(`${CONFIG.refcountBits}=16`),
    ],
    [
      wanted.lazy && keeps,
      CONFIG.lazyRefcounts,
      'Version 2 does not support lazy refcounts',
      'on',
      hint(`${CONFIG.lazyRefcounts}=off`),
    ],
    [
      wanted.compression !== 'zlib',
      CONFIG.compressionType,
      'Version 2 supports zlib compression only',
      wanted.compression,
      hint(`${CONFIG.compressionType}=zlib`),
    ],
  ];
  const found = refused.find(([is]) => is);
  if (found === undefined) return;
  const [, key, message, value, advice] = found;
  throw new ImageError('unsupported', message, { path, field: key, found: value, hint: advice });
}

/** Features of a version 3 image that version 2 cannot store. Zero clusters are handled separately. */
function refuseDowngrade({ header, snapshots, path }: AmendFacts): void {
  const bit = (one: bigint): boolean => (header.incompatible & one) !== 0n;
  const odd = snapshots.find(({ diskSize, vmStateSize }) => diskSize !== header.size || vmStateSize >= VM_STATE_2);
  const unknown = header.unknownFields.some((byte) => byte !== 0);
  const refused: readonly (readonly [is: boolean, message: string, found: string, hint: string])[] = [
    [bit(INCOMPATIBLE.extendedL2), 'Version 2 does not support subclusters', 'extended_l2=on', 'Convert the image.'],
    [bit(INCOMPATIBLE.dataFile), 'Version 2 does not support external data files', 'a data file', 'Convert the image.'],
    [
      bit(INCOMPATIBLE.dirty) || bit(INCOMPATIBLE.corrupt),
      'Version 2 cannot mark an image as dirty or corrupt',
      'a dirty or corrupt image',
      'Check and repair it first.',
    ],
    [
      header.bitmaps !== null,
      'Version 2 does not support bitmaps',
      `${header.bitmaps?.count ?? 0} bitmaps`,
      'Remove them first (on the command line: bitmap remove).',
    ],
    [
      odd !== undefined,
      'Version 2 cannot store a snapshot with another disk size or a machine state of 4 GiB or more',
      `snapshot "${printable(odd?.name ?? '')}" with a disk of ${odd?.diskSize ?? 0} bytes`,
      'Delete the snapshot, or convert the image.',
    ],
    [unknown, 'The header has unknown fields, which version 2 cannot store', 'other fields', ''],
  ];
  const found = refused.find(([is]) => is);
  if (found === undefined) return;
  const [, message, what, hint] = found;
  throw new ImageError('unsupported', message, {
    path,
    field: CONFIG.compat,
    found: what,
    expected: 'none of it in an image that is converted to version 2 (compat=0.10)',
    ...(hint === '' ? {} : { hint }),
  });
}

interface Names {
  readonly dataFileName?: string | undefined;
  readonly dataFileRaw?: boolean | undefined;
  readonly backingName?: string | null | undefined;
  readonly backingFormat?: string | null | undefined;
}

/** Permits what QEMU permits: another name, and a raw file that no longer needs to be raw. */
function wantedDataFile(facts: AmendFacts, values: AmendValues): Names {
  const { header, path } = facts;
  const external = (header.incompatible & INCOMPATIBLE.dataFile) !== 0n;
  const names: { dataFileName?: string | undefined; dataFileRaw?: boolean | undefined } = {};
  const refuse = (key: string, message: string, found: string, hint: string): ImageError =>
    new ImageError('unsupported', message, { path, field: key, found, expected: String(values[key]), hint });
  if (has(values, CONFIG.dataFileRaw)) {
    const raw = flag(values, CONFIG.dataFileRaw);
    if (raw && !isRawDataFile(header)) {
      throw refuse(
        CONFIG.dataFileRaw,
        'A raw data file cannot be added to an existing image: its zeroes are not in that file',
        external ? 'off' : 'no data file',
        'Convert the image to a new one.',
      );
    }
    names.dataFileRaw = raw && external;
  }
  if (!has(values, CONFIG.dataFile)) return names;
  const name = String(values[CONFIG.dataFile]);
  if (!external) {
    throw refuse(
      CONFIG.dataFile,
      'An external data file cannot be added to an existing image',
      'no data file',
      'Convert the image to a new one.',
    );
  }
  checkName(facts, CONFIG.dataFile, name, BACKING_NAME_MAX);
  return { ...names, dataFileName: name };
}

function wantedBacking(facts: AmendFacts, values: AmendValues): Names {
  const { header, path } = facts;
  if (!has(values, BACKING_FILE) && !has(values, BACKING_FORMAT)) return {};
  const name = String(values[BACKING_FILE] ?? header.backingName ?? '');
  const format = has(values, BACKING_FORMAT) ? String(values[BACKING_FORMAT]) : null;
  const details = { path, field: BACKING_FILE, found: header.backingName ?? 'no backing file' };
  if (name === '') {
    if (format === null) return { backingName: null, backingFormat: null };
    throw new ImageError('invalid-argument', 'The image has no backing file, so it cannot have a backing format', {
      ...details,
      field: BACKING_FORMAT,
      expected: printable(format),
      hint: `Specify it with ${BACKING_FILE}.`,
    });
  }
  checkName(facts, BACKING_FILE, name, BACKING_NAME_MAX);
  if (isRawDataFile(header)) {
    throw new ImageError('unsupported', 'An image with a raw data file cannot have a backing file', {
      ...details,
      expected: printable(name),
    });
  }
  if (format !== null) checkName(facts, BACKING_FORMAT, format, BACKING_FORMAT_MAX);
  // A guest can write a header of any format into a raw disk: its format must not be guessed.
  if (format === null && name !== header.backingName) {
    throw new ImageError('invalid-argument', 'The format of the new backing file is missing', {
      ...details,
      expected: printable(name),
      hint: `Specify it with ${BACKING_FORMAT}.`,
    });
  }
  return { backingName: name, backingFormat: format ?? header.backingFormat };
}

function checkName({ path }: AmendFacts, key: string, name: string, most: number): void {
  const { length } = new TextEncoder().encode(name);
  if (length > 0 && length <= most && !CONTROL.test(name)) return;
  const kind: ErrorKind = 'invalid-argument';
  throw new ImageError(kind, `The value of ${key} is not valid`, {
    path,
    field: key,
    found: printable(name),
    expected: `1 to ${most} bytes without control characters`,
  });
}

function withFeatures(
  header: Qcow2Header,
  { lazy, compression }: { readonly lazy: boolean; readonly compression: 'zlib' | 'zstd' },
): Qcow2Header {
  const compatible = lazy
    ? header.compatible | COMPATIBLE.lazyRefcounts
    : header.compatible & ~COMPATIBLE.lazyRefcounts;
  if (compression === header.compression) return { ...header, compatible };
  const incompatible =
    compression === 'zlib'
      ? header.incompatible & ~INCOMPATIBLE.compression
      : header.incompatible | INCOMPATIBLE.compression;
  return { ...longHeader(header), compatible, incompatible, compression };
}

/** Old headers end before the compression type. */
function longHeader(header: Qcow2Header): Qcow2Header {
  if (header.headerLength >= HEADER.size) return header;
  return { ...header, headerLength: HEADER.size, unknownFields: new Uint8Array(HEADER.fields.padding.size) };
}

function withNames(header: Qcow2Header, names: Names): Qcow2Header {
  const { dataFileName, dataFileRaw, backingName, backingFormat } = names;
  let named = header;
  if (dataFileName !== undefined) {
    const bytes = dataFileName === null ? null : new TextEncoder().encode(dataFileName);
    const extensions = withExtension(named.extensions, EXTENSION_TYPE.dataFile, bytes);
    named = { ...named, dataFileName, extensions };
  }
  if (dataFileRaw === false) named = { ...named, autoclear: named.autoclear & ~AUTOCLEAR.dataFileRaw };
  if (backingName === undefined || backingFormat === undefined) return named;
  const bytes = backingFormat === null ? null : encodeFormat(backingFormat);
  const extensions = withExtension(named.extensions, EXTENSION_TYPE.backingFormat, bytes);
  return { ...named, backingName, backingFormat, extensions };
}

function withVersion(header: Qcow2Header, version: 2 | 3): Qcow2Header {
  if (header.version === version) return header;
  const without = (...types: readonly number[]) => header.extensions.filter(({ type }) => !types.includes(type));
  const { featureNames: names, bitmaps, dataFile } = EXTENSION_TYPE;
  const features = { incompatible: 0n, compatible: 0n, autoclear: 0n, bitmaps: null };
  if (version === VERSION_2) {
    return {
      ...header,
      ...features,
      version,
      headerLength: HEADER_LENGTH_2,
      unknownFields: new Uint8Array(0),
      dataFileName: null,
      extensions: without(names, bitmaps, dataFile),
    };
  }
  // Bitmaps of version 2 are what a program left that did not know them.
  const kept = without(names, bitmaps, dataFile);
  return {
    ...longHeader(header),
    ...features,
    compatible: header.compatible,
    incompatible: header.incompatible,
    version,
    dataFileName: null,
    extensions: header.clusterSize > NAMES_FROM_CLUSTER ? [...kept, featureNames()] : kept,
  };
}
