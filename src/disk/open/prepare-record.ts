/**
 * The record of an image that is being converted in place, from which an interrupted conversion continues. Two slots
 * are written in turn, so that one of them is always whole; each contains the position of the conversion and the
 * original bytes there. vdkit's own layout, little-endian.
 */
import { crc32c } from '../../binary/crc32c.ts';
import { bytes, guid, type StructValue, size64, struct, text, u32 } from '../../binary/struct.ts';
import { ImageError, isImageError } from '../../errors.ts';
import type { Source, Storage } from '../../storage/contract.ts';
import { recordOf } from './half-converted.ts';

/** Guest bytes converted per step. */
export const WINDOW = 1024 * 1024;
/** Maximum length of the text that names the filters. */
export const FILTERS_MAX = 256;

const MAGIC = 'VDKITFLT';
const VERSION = 1;
const STATES = ['planned', 'running', 'done'] as const;

/** Head of a slot, followed by the original bytes of the window. */
const SLOT = struct('little', 512, {
  magic: text(0, 8),
  version: u32(8),
  checksum: u32(12), // CRC-32C of the slot: its head with this field 0, and the bytes
  sequence: size64(16), // the slot with the higher number counts
  state: u32(24),
  length: u32(28),
  position: size64(32),
  converted: u32(40), // CRC-32C of what the filters make of the bytes: tells whether others are at work
  image: u32(44),
  images: u32(48),
  fingerprint: u32(52), // CRC-32C of what the filters make of a sector that is always the same
  diskSize: size64(56),
  conversion: guid(64, 'mixed'), // the same beside all images of the chain
  uuid: guid(80, 'mixed'), // of the image; null: it has none
  filters: text(96, FILTERS_MAX),
  rest: bytes(352, 160),
});
const SLOT_BYTES = SLOT.size + WINDOW;

/** Progress of the conversion of an image. */
export interface PrepareState {
  readonly state: (typeof STATES)[number];
  /** Guest offset; everything before it is converted. */
  readonly position: number;
  /** The original bytes there; empty unless running. */
  readonly original: Uint8Array;
  /** CRC-32C of the converted bytes. */
  readonly converted: number;
}

/** Facts about the whole conversion, in every record. */
export interface PrepareIdentity {
  readonly conversion: string;
  /** Number of the image, 0 = base, and number of images. */
  readonly image: number;
  readonly images: number;
  readonly uuid: string;
  readonly diskSize: number;
  /** Names and directions of the filters. */
  readonly filters: string;
  /** Distinguishes the same filters with other options or keys. */
  readonly fingerprint: number;
}

/** An open record. */
export class PrepareRecord {
  readonly identity: PrepareIdentity;
  readonly #storage: Storage;
  #current: PrepareState;
  #sequence: number;

  private constructor(storage: Storage, identity: PrepareIdentity, current: PrepareState, sequence: number) {
    this.#storage = storage;
    this.identity = identity;
    this.#current = current;
    this.#sequence = sequence;
  }

  /** The state written last. */
  get current(): PrepareState {
    return this.#current;
  }

  /** Creates the record of an image, durable except for its name. Throws `exists`. */
  static async create(source: Source, identity: PrepareIdentity): Promise<PrepareRecord> {
    const { provider, name } = recordOf(source);
    const planned: PrepareState = { state: 'planned', position: 0, original: new Uint8Array(0), converted: 0 };
    const storage = await provider.create(name);
    try {
      const record = new PrepareRecord(storage, identity, planned, 0);
      await record.write(planned);
      return record;
    } catch (error) {
      await storage.close();
      await provider.remove(name).catch(() => {});
      throw error;
    }
  }

  /**
   * Opens the record of an image. `unwritten`: its first slot never reached the medium, so nothing was converted yet;
   * null: no record. Throws `corrupt`.
   */
  static async open(source: Source): Promise<PrepareRecord | 'unwritten' | null> {
    const { provider, name } = recordOf(source);
    const storage = await openIfThere({ provider, name });
    if (storage === null) return null;
    let record: PrepareRecord | null = null;
    try {
      const slots = [await readSlot(storage, 0), await readSlot(storage, 1)].filter((slot) => slot !== null);
      const [newest] = slots.sort((a, b) => b.sequence - a.sequence);
      if (newest !== undefined) record = new PrepareRecord(storage, newest.identity, newest.current, newest.sequence);
      // The first slot is durable before any other is written, and before any image is touched.
      else if (storage.size <= SLOT.size) return 'unwritten';
    } finally {
      if (record === null) await storage.close();
    }
    if (record !== null) return record;
    throw new ImageError('corrupt', 'The record of a conversion by filters cannot be read', {
      path: name,
      hint: 'Restore the images and their records (*.vdkit-filters) from a backup.',
    });
  }

  /** Durable when it resolves. */
  async write(next: PrepareState): Promise<void> {
    const sequence = this.#sequence + 1;
    const { conversion, image, images, uuid, diskSize, filters, fingerprint } = this.identity;
    const slot = new Uint8Array(SLOT.size + next.original.length);
    slot.set(
      SLOT.encode({
        magic: MAGIC,
        version: VERSION,
        checksum: 0,
        sequence,
        state: STATES.indexOf(next.state),
        length: next.original.length,
        position: next.position,
        converted: next.converted,
        image,
        images,
        fingerprint,
        diskSize,
        conversion,
        uuid,
        filters,
        rest: new Uint8Array(SLOT.fields.rest.size),
      }),
    );
    slot.set(next.original, SLOT.size);
    SLOT.put(slot, 'checksum', crc32c(slot));
    await this.#storage.write(((sequence + 1) % 2) * SLOT_BYTES, slot);
    await this.#storage.flush();
    this.#sequence = sequence;
    this.#current = next;
  }

  close(): Promise<void> {
    return this.#storage.close();
  }
}

async function openIfThere({ provider, name }: Source): Promise<Storage | null> {
  try {
    return await provider.open(name, 'write');
  } catch (error) {
    if (isImageError(error) && error.kind === 'not-found') return null;
    throw error;
  }
}

interface Slot {
  readonly sequence: number;
  readonly identity: PrepareIdentity;
  readonly current: PrepareState;
}

/** An intact slot; null otherwise. */
async function readSlot(storage: Storage, number: number): Promise<Slot | null> {
  const start = number * SLOT_BYTES;
  if (storage.size < start + SLOT.size) return null;
  const head = new Uint8Array(SLOT.size);
  await storage.read(start, head);
  const value = decoded(head);
  if (value === null || value.magic !== MAGIC || value.version !== VERSION) return null;
  const state = STATES[value.state];
  if (state === undefined || value.length > WINDOW || storage.size < start + SLOT.size + value.length) return null;
  const original = new Uint8Array(value.length);
  await storage.read(start + SLOT.size, original);
  SLOT.put(head, 'checksum', 0);
  if (crc32c(original, crc32c(head)) !== value.checksum) return null;
  const { sequence, position, converted, image, images, uuid, diskSize, conversion, filters, fingerprint } = value;
  return {
    sequence,
    identity: { conversion, image, images, uuid, diskSize, filters, fingerprint },
    current: { state, position, original, converted },
  };
}

function decoded(head: Uint8Array): StructValue<typeof SLOT> | null {
  try {
    return SLOT.decode(head);
  } catch {
    // It has numbers that no record of ours has.
    return null;
  }
}
