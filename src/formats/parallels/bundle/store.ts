/** The descriptor of an open bundle: read by its name, since a change puts another file into its place. */
import { ImageError } from '../../../errors.ts';
import type { ImageFiles } from '../../../image/files.ts';
import type { OpenMode, Storage } from '../../../storage/contract.ts';
import { DESCRIPTOR } from '../layout.ts';
import { type Descriptor, parseDescriptor } from './descriptor.ts';
import { BUNDLE_LIMITS } from './limits.ts';

/** See the head of this file. */
export class DescriptorStore {
  readonly #files: Pick<ImageFiles, 'open' | 'parts'>;
  readonly #mode: OpenMode;
  #storage: Storage;
  #descriptor: Descriptor;

  constructor(
    files: Pick<ImageFiles, 'open' | 'parts'>,
    mode: OpenMode,
    { storage, descriptor }: { readonly storage: Storage; readonly descriptor: Descriptor },
  ) {
    this.#files = files;
    this.#mode = mode;
    this.#storage = storage;
    this.#descriptor = descriptor;
  }

  static async open(files: Pick<ImageFiles, 'open' | 'parts'>, mode: OpenMode): Promise<DescriptorStore> {
    return new DescriptorStore(files, mode, await read(files, mode));
  }

  get storage(): Storage {
    return this.#storage;
  }

  get descriptor(): Descriptor {
    return this.#descriptor;
  }

  /** Reads the descriptor as it is now. True: it is as it was. */
  async refresh(): Promise<boolean> {
    const before = this.#descriptor.text;
    const [old, { storage, descriptor }] = [this.#storage, await read(this.#files, this.#mode)];
    this.#storage = storage;
    this.#descriptor = descriptor;
    await old.close();
    return descriptor.text === before;
  }

  /** Changes the descriptor as it is now, durably and in one step. */
  async change(edit: (descriptor: Descriptor) => Descriptor): Promise<void> {
    await this.refresh();
    const next = edit(this.#descriptor);
    if (next.text === this.#descriptor.text) return;
    const { parts } = this.#files;
    if (parts === undefined) {
      throw new ImageError('unsupported', 'The bundle is being made: its list of images cannot change yet', {
        path: this.#descriptor.path,
      });
    }
    await parts.replace(DESCRIPTOR, this.#storage, new TextEncoder().encode(next.text));
    await this.refresh();
  }
}

async function read(
  files: Pick<ImageFiles, 'open'>,
  mode: OpenMode,
): Promise<{ readonly storage: Storage; readonly descriptor: Descriptor }> {
  const storage = await files.open({ name: DESCRIPTOR, role: 'descriptor', part: true, unlocked: true }, mode);
  const { size, label } = storage;
  if (size > BUNDLE_LIMITS.descriptorBytes) {
    throw new ImageError('limit', 'The descriptor of the bundle is too long', {
      path: label,
      found: `${size} bytes`,
      expected: `at most ${BUNDLE_LIMITS.descriptorBytes}`,
    });
  }
  const bytes = new Uint8Array(size);
  if (size > 0) await storage.read(0, bytes);
  return { storage, descriptor: parseDescriptor(bytes, label) };
}
