/** The bands of a sparse bundle: a file for each band that was written, opened while it is read. */
import { ImageError, isImageError } from '../../errors.ts';
import type { ImageFiles } from '../../image/files.ts';
import { allOf, lengthOf } from '../../storage/checks.ts';
import type {
  OperationOptions,
  ReadTarget,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageIdentity,
} from '../../storage/contract.ts';
import { ForwardingStorage } from '../../storage/forwarding.ts';
import { type BundleFacts, tooMuch } from './facts.ts';
import { BAND_NAME, BANDS, LIMITS } from './layout.ts';

/** Names of files that are listed in a warning. */
const NAMED = 3;

/** Stored bands of a bundle. */
export interface BandList {
  /** Stored bytes by number. */
  readonly sizes: ReadonlyMap<number, number>;
  readonly warnings: readonly string[];
}

/** Lists the bands. Throws `corrupt`, `limit`, `not-found`. */
export async function listBands(files: ImageFiles, { virtualSize, bandBytes }: BundleFacts): Promise<BandList> {
  const listed = await files.entries?.(BANDS);
  if (listed === null || listed === undefined) {
    throw new ImageError('corrupt', 'The sparse bundle has no directory of bands', { path: files.name, field: BANDS });
  }
  const sizes = new Map<number, number>();
  const strange = new Set<string>();
  const beyond = new Set<string>();
  for await (const { name, kind, size } of listed.entries) {
    if (sizes.size + strange.size + beyond.size >= LIMITS.bands) {
      throw tooMuch(files.name, 'number of bands', LIMITS.bands + 1, `${LIMITS.bands}`);
    }
    const band = kind === 'file' && BAND_NAME.test(name) ? Number.parseInt(name, 16) : null;
    if (band === null) strange.add(name);
    else if (band * bandBytes >= virtualSize) beyond.add(name);
    else if (size > bandBytes) throw tooLong(files.name, name, size, bandBytes);
    else if (size > 0) sizes.set(band, size);
  }
  return {
    sizes,
    warnings: [...warningOf(strange, 'no bands'), ...warningOf(beyond, 'bands beyond the end of the disk')],
  };
}

function warningOf(names: ReadonlySet<string>, what: string): string[] {
  if (names.size === 0) return [];
  const some = [...names].slice(0, NAMED).map((name) => JSON.stringify(name.slice(0, 80)));
  const rest = names.size > NAMED ? ` and ${names.size - NAMED} more` : '';
  return [`Files in the directory ${BANDS} are ${what} and are not read: ${some.join(', ')}${rest}.`];
}

function tooLong(path: string, name: string, found: number, bandBytes: number): ImageError {
  return new ImageError('corrupt', 'A band of the sparse bundle is longer than the property list says', {
    path,
    field: `${BANDS}/${name}`,
    found: `${found} bytes`,
    expected: `at most ${bandBytes}`,
  });
}

/** All stored bands as one storage: their offsets are those of the disk. */
export class BandFiles extends ForwardingStorage {
  readonly #files: ImageFiles;
  readonly #bands: BandList;
  readonly #facts: BundleFacts;
  /** Files by number, the one that was used last at the end. */
  readonly #open = new Map<number, OpenBand>();
  #closed = false;

  /** `list`: the open property list, which stands for the bundle. */
  constructor(list: Storage, files: ImageFiles, bands: BandList, facts: BundleFacts) {
    super(list, ['hints', 'readNow', 'allocate', 'adviseSequential', 'attributes', 'place']);
    this.#files = files;
    this.#bands = bands;
    this.#facts = facts;
  }

  override get label(): string {
    return this.#files.name;
  }

  override get size(): number {
    return this.#facts.virtualSize;
  }

  override get can(): StorageCapabilities {
    return { write: false, resize: false, random: true, punch: false, growsZeroed: false };
  }

  override extentAt(offset: number): StorageExtent {
    return { start: offset, end: this.size, data: true };
  }

  override async identity(): Promise<StorageIdentity> {
    const { key } = await this.inner.identity();
    let hostSize = 0;
    for (const size of this.#bands.sizes.values()) hostSize += size;
    return { key: `${key}#${BANDS}`, kind: 'other', allocatedSize: hostSize, hostSize, modifiedMs: null };
  }

  override async lock(): Promise<void> {}

  override async flush(): Promise<void> {}

  /** Reads within one band. */
  override async read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    const length = lengthOf(target);
    const number = Math.floor(offset / this.#facts.bandBytes);
    const inBand = offset - number * this.#facts.bandBytes;
    if (length === 0) return;
    const band = this.#use(number);
    try {
      const storage = await band.storage;
      if (inBand + length > storage.size) throw this.#changed(number, storage.size);
      await storage.read(inBand, allOf(target), options);
    } finally {
      band.uses--;
      await this.#shrink();
    }
  }

  override async close(): Promise<void> {
    this.#closed = true;
    await this.#shrink();
  }

  #use(number: number): OpenBand {
    const band = this.#open.get(number) ?? { uses: 0, storage: this.#openBand(number) };
    this.#open.delete(number);
    this.#open.set(number, band);
    band.uses++;
    return band;
  }

  async #openBand(number: number): Promise<Storage> {
    const name = `${BANDS}/${number.toString(16)}`;
    try {
      return await this.#files.open({ name, role: 'band', part: true, passing: true }, 'read');
    } catch (error) {
      if (isImageError(error) && error.kind === 'not-found') throw this.#changed(number, 0);
      throw error;
    }
  }

  /** Closes files that nothing uses. */
  async #shrink(): Promise<void> {
    const most = this.#closed ? 0 : LIMITS.open;
    for (const [number, { uses, storage }] of this.#open) {
      if (this.#open.size <= most) return;
      if (uses > 0) continue;
      this.#open.delete(number);
      // One that could not be opened told so to its readers.
      const open = await storage.catch(() => null);
      await open?.close();
    }
  }

  #changed(number: number, found: number): ImageError {
    return new ImageError('io', 'A band of the sparse bundle changed while the image was open', {
      path: this.label,
      field: `${BANDS}/${number.toString(16)}`,
      found: `${found} bytes`,
      expected: `${this.#bands.sizes.get(number) ?? 0}`,
      hint: 'Eject the image where it is in use, and open it again.',
    });
  }
}

interface OpenBand {
  uses: number;
  readonly storage: Promise<Storage>;
}
