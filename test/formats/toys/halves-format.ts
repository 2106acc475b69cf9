/**
 * A toy format of several files: a text that names two more, which hold the first and the second half of the disk. They are
 * named after it, `disk-1.half` and `disk-2.half` for `disk.halves`.
 */
import { ImageError } from '../../../src/errors.ts';
import type { Image, ImagePart, Mapping, SealedMetadata } from '../../../src/image/contract.ts';
import { defineFormat } from '../../../src/image/define-format.ts';
import { filesOfNew, type ImageFiles, mainFile } from '../../../src/image/files.ts';
import { plainInfo } from '../../../src/image/plain-info.ts';
import type { OpenMode, Storage } from '../../../src/storage/contract.ts';

const MAGIC = 'HALVES\n';
const SECTOR = 512;
const LONGEST = 4096;
const ROLE = 'half of the disk';
const NOTHING: SealedMetadata = { stage: [], root: [], publish: [] };

/** The toy. */
export const halves = defineFormat({
  name: 'halves',
  title: 'Two halves and their names',
  can: { write: true },
  extensions: [{ extension: 'halves', type: 'hdd' }],
  probe: ({ head }) =>
    new TextDecoder().decode(head.subarray(0, MAGIC.length)) === MAGIC
      ? { match: 'yes', reason: 'it begins with HALVES', type: 'hdd' }
      : { match: 'no', reason: 'it does not begin with HALVES' },
  open: (files, { mode, withoutData }) => openHalves(files, mode, withoutData !== true),
  async create(files, { size }) {
    if (!Number.isSafeInteger(size) || size < 2 * SECTOR || size % SECTOR !== 0) {
      throw new ImageError('invalid-argument', 'The disk size is not valid', { path: files.name, found: size });
    }
    const first = SECTOR * Math.floor(size / SECTOR / 2);
    const base = (files.name.split('/').at(-1) ?? '').replace(/\.[^.]*$/, '');
    const names = [1, 2].map((number) => `${base}-${number}.half`);
    const parts = new Map<string, Storage>();
    for (const name of names) parts.set(name, await files.part(name));
    for (const [index, part] of [...parts.values()].entries()) {
      await part.resize(index === 0 ? first : size - first);
      await part.flush();
    }
    await writeText(files.main, names);
    return openHalves(filesOfNew(files, parts), 'write', true);
  },
  plan: ({ size }) => ({ virtualSize: size, preallocates: 0 }),
});

async function writeText(main: Storage, names: readonly string[]): Promise<void> {
  const bytes = new TextEncoder().encode(`${MAGIC}${names.join('\n')}\n`);
  await main.write(0, bytes);
  await main.resize(bytes.length);
  await main.flush();
}

async function openHalves(files: ImageFiles, mode: OpenMode, withData: boolean): Promise<Image> {
  const main = mainFile(files);
  const bytes = new Uint8Array(Math.min(main.size, LONGEST));
  await main.read(0, bytes);
  const text = new TextDecoder().decode(bytes);
  if (!text.startsWith(MAGIC))
    throw new ImageError('invalid-format', 'It does not begin with HALVES', { path: main.label });
  const [first, second, rest] = text.slice(MAGIC.length).split('\n');
  if (first === undefined || second === undefined || rest !== '') {
    throw new ImageError('corrupt', 'There are not two names', { path: main.label });
  }
  const parts: ImagePart[] = [];
  for (const name of [first, second]) {
    parts.push({
      name,
      role: ROLE,
      storage: withData ? await files.open({ name, role: ROLE, part: true }, mode) : null,
    });
  }
  return new Halves(main, parts, mode === 'write');
}

class Halves implements Image {
  readonly dirtyBytes = 0;
  readonly can: Image['can'];
  readonly #main: Storage;
  #parts: readonly ImagePart[];

  constructor(main: Storage, parts: readonly ImagePart[], write: boolean) {
    this.#main = main;
    this.#parts = parts;
    this.can = {
      write,
      readOnlyReason: null,
      allocate: false,
      zeroMarker: false,
      discard: false,
      resize: false,
      compact: false,
    };
  }

  get info() {
    const virtualSize = this.#parts.reduce((sum, { storage }) => sum + (storage?.size ?? 512), 0);
    return plainInfo({ format: 'halves', virtualSize, blockSize: null });
  }

  parts(): readonly ImagePart[] {
    return this.#parts;
  }

  map(guestOffset: number, length: number): Mapping {
    const [first, second] = this.#parts.map(({ storage }) => storage);
    if (first === undefined || first === null || second === undefined || second === null) throw new Error('no data');
    const writable = this.can.write;
    return guestOffset < first.size
      ? {
          kind: 'data',
          storage: first,
          fileOffset: guestOffset,
          length: Math.min(length, first.size - guestOffset),
          writable,
        }
      : { kind: 'data', storage: second, fileOffset: guestOffset - first.size, length, writable };
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    this.#parts = this.#parts.map((part) => ({ ...part, name: names.get(part.name) ?? part.name }));
    await writeText(
      this.#main,
      this.#parts.map(({ name }) => name),
    );
  }

  async beginChanges(): Promise<void> {}
  noteChange(): void {}
  seal(): SealedMetadata {
    return NOTHING;
  }
  settle(): void {}

  async *metadata() {
    yield { storage: this.#main, fileOffset: 0, length: this.#main.size, what: 'names', guestOffset: null };
  }

  storages(): readonly Storage[] {
    return [...this.#parts.flatMap(({ storage }) => (storage === null ? [] : [storage])), this.#main];
  }

  async close(): Promise<void> {
    for (const storage of this.storages()) await storage.close();
  }
}
