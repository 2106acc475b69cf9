/**
 * The two headers of a VHDX file. The current one is the valid one with the greater sequence number. A change goes to the
 * other one, durable, and then to the first: one of both is whole at any time.
 */
import { isNullGuid, NULL_GUID, randomGuid } from '../../binary/guid.ts';
import { isAligned } from '../../binary/numbers.ts';
import { equalBytes } from '../../codec/bytes.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readPadded } from '../../storage/read-padded.ts';
import { checksumFits, putChecksum } from './checksum.ts';
import { fault } from './fault.ts';
import { HEADER, HEADER_OFFSETS, HEADER_SIGNATURE, type Header, LOG_VERSION, MIB, VERSION } from './layout.ts';
import { VHDX_LIMITS } from './limits.ts';

const LAST_SEQUENCE = 0xffff_ffff_ffff_ffffn;

/** `old`: sound, but the other one is newer; `differs`: as new as the other one. */
export type HeaderState = 'current' | 'old' | 'wrong checksum' | 'missing' | 'differs';

/** The current header, and the state of both. */
export interface FoundHeaders {
  readonly header: Header;
  /** Number of the current one: 0 or 1. */
  readonly slot: 0 | 1;
  readonly states: readonly [HeaderState, HeaderState];
  readonly log: LogPlace;
}

/** Place of the log, checked; a length of 0: there is none. */
export interface LogPlace {
  readonly fileOffset: number;
  readonly length: number;
}

interface Candidate {
  readonly header: Header;
  readonly bytes: Uint8Array;
}

/** Finds the current header. Throws `corrupt`, `unsupported`, `limit`. */
export async function findHeaders(storage: Storage, options: OperationOptions = {}): Promise<FoundHeaders> {
  const [first, second] = [await candidateAt(storage, 0, options), await candidateAt(storage, 1, options)];
  const [one, two] = [soundOf(first), soundOf(second)];
  const slot = newerOf(one, two, storage.label);
  const chosen = slot === 0 ? one : slot === 1 ? two : null;
  if (slot === null || chosen === null) {
    throw fault('corrupt', 'Both headers of the image are damaged', {
      path: storage.label,
      offset: HEADER_OFFSETS[0],
      field: 'header',
      found: `${stateOf(first)} and ${stateOf(second)}`,
      expected: 'one with the right checksum',
      hint: 'To make new ones: "vdkit check --repair IMAGE". Copy the file first.',
    });
  }
  const { header } = chosen;
  const states = [first, second].map((found, at) => (at === slot ? 'current' : stateOf(found))) as [
    HeaderState,
    HeaderState,
  ];
  return { header, slot, states, log: checkedLog(header, storage) };
}

/**
 * Stands for the headers where both are damaged: new identities, and no log. Null: one of them is sound. Children no longer
 * find the image by its old identity.
 */
export async function lostHeaders(storage: Storage, options: OperationOptions = {}): Promise<FoundHeaders | null> {
  const [first, second] = [await candidateAt(storage, 0, options), await candidateAt(storage, 1, options)];
  if (typeof first !== 'string' || typeof second !== 'string') return null;
  const header: Header = {
    signature: HEADER_SIGNATURE,
    checksum: 0,
    sequence: 0n,
    fileWriteGuid: randomGuid(),
    dataWriteGuid: randomGuid(),
    logGuid: NULL_GUID,
    logVersion: LOG_VERSION,
    version: VERSION,
    logLength: 0,
    logOffset: 0n,
    reserved: new Uint8Array(HEADER.fields.reserved.size),
  };
  return { header, slot: 1, states: [first, second], log: { fileOffset: 0, length: 0 } };
}

async function candidateAt(
  storage: Storage,
  slot: 0 | 1,
  options: OperationOptions,
): Promise<Candidate | 'missing' | 'wrong checksum'> {
  const bytes = new Uint8Array(HEADER.size);
  await readPadded(storage, HEADER_OFFSETS[slot], bytes, options);
  if (HEADER.get(bytes, 'signature') !== HEADER_SIGNATURE) return 'missing';
  return checksumFits(bytes) ? { bytes, header: HEADER.decode(bytes) } : 'wrong checksum';
}

function soundOf(found: Candidate | string): Candidate | null {
  return typeof found === 'string' ? null : found;
}

function stateOf(found: Candidate | 'missing' | 'wrong checksum'): HeaderState {
  return typeof found === 'string' ? found : 'old';
}

/** Twins count as one: Disk2vhd writes such. Two that differ cannot both be the last. */
function newerOf(one: Candidate | null, two: Candidate | null, path: string): 0 | 1 | null {
  if (one === null || two === null) return one !== null ? 0 : two !== null ? 1 : null;
  if (one.header.sequence !== two.header.sequence) return one.header.sequence > two.header.sequence ? 0 : 1;
  if (equalBytes(one.bytes, two.bytes)) return 0;
  throw fault('corrupt', 'The two headers of the image differ, and neither is newer', {
    path,
    field: 'sequence number',
    found: String(one.header.sequence),
    expected: 'different numbers, or equal headers',
  });
}

function checkedLog({ version, logVersion, logGuid, logLength, logOffset }: Header, storage: Storage): LogPlace {
  const path = storage.label;
  if (version !== VERSION) {
    throw fault('unsupported', 'The version of the image is not known', { path, field: 'version', found: version });
  }
  const isEmpty = isNullGuid(logGuid);
  if (!isEmpty && logVersion !== LOG_VERSION) {
    throw fault('unsupported', 'The version of the log is not known', {
      path,
      field: 'log version',
      found: logVersion,
    });
  }
  if (logLength === 0 && isEmpty) return { fileOffset: 0, length: 0 };
  const end = logOffset + BigInt(logLength);
  const fits = logOffset >= BigInt(MIB) && logOffset % BigInt(MIB) === 0n && end <= BigInt(storage.size);
  if (logLength === 0 || !isAligned(logLength, MIB) || !fits) {
    throw fault('corrupt', 'The log cannot be where the header says', {
      path,
      field: 'log offset',
      found: `${logLength} bytes at ${logOffset}`,
      expected: 'whole MiB inside the file, behind the first',
    });
  }
  if (logLength > VHDX_LIMITS.logBytes) {
    throw fault('limit', 'The log of the image is too long', {
      path,
      field: 'log length',
      found: logLength,
      expected: `at most ${VHDX_LIMITS.logBytes}`,
    });
  }
  return { fileOffset: Number(logOffset), length: logLength };
}

/** The bytes of a header, with the checksum that fits. */
export function encodeHeader(header: Header): Uint8Array {
  const bytes = HEADER.encode(header);
  putChecksum(bytes);
  return bytes;
}

/** Fields that a change of the headers replaces. */
export type HeaderChange = Partial<
  Pick<Header, 'fileWriteGuid' | 'dataWriteGuid' | 'logGuid' | 'logLength' | 'logOffset'>
>;

/** The headers of an open file. */
export class Headers {
  readonly #storage: Storage;
  #header: Header;
  #slot: 0 | 1;

  constructor(storage: Storage, { header, slot }: Pick<FoundHeaders, 'header' | 'slot'>) {
    this.#storage = storage;
    this.#header = header;
    this.#slot = slot;
  }

  get current(): Header {
    return this.#header;
  }

  /** True when the log has entries that count. */
  get isLogged(): boolean {
    return this.#header.logGuid !== NULL_GUID;
  }

  /** Changes both headers, durably, the older one first. */
  async change(changes: HeaderChange): Promise<void> {
    const { sequence } = this.#header;
    const other = this.#slot === 0 ? 1 : 0;
    // Numbers that end begin again: the current header stays the greater one until it is replaced.
    const [first, second] = sequence >= LAST_SEQUENCE - 1n ? [0n, 1n] : [sequence + 1n, sequence + 2n];
    await this.#write(other, { ...this.#header, ...changes, sequence: first });
    await this.#write(this.#slot, { ...this.#header, ...changes, sequence: second });
    this.#header = { ...this.#header, ...changes, sequence: second };
  }

  async #write(slot: 0 | 1, header: Header): Promise<void> {
    await this.#storage.write(HEADER_OFFSETS[slot], encodeHeader(header));
    await this.#storage.flush();
  }
}
