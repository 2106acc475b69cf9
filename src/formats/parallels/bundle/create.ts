/** New bundles: a directory with a descriptor and one expandable file. */
import { SECTOR } from '../../../binary/numbers.ts';
import type { FormatCreateOptions, Image, Measure } from '../../../image/contract.ts';
import type { NewFiles, Storage } from '../../../storage/contract.ts';
import { baseName } from '../../../storage/gate.ts';
import { DESCRIPTOR } from '../layout.ts';
import { DEFAULT_TOP, parseText } from './descriptor.ts';
import { newText } from './edit.ts';
import { BundleImage, geometryFor } from './image.ts';
import { DescriptorStore } from './store.ts';

/** Creation of one expandable file. */
export type CreateFile = (files: NewFiles, options: FormatCreateOptions) => Promise<Image>;

/** Writes an empty bundle and leaves it open for writing. */
export async function createBundle(
  files: NewFiles,
  options: FormatCreateOptions,
  createFile: CreateFile,
): Promise<Image> {
  const { name, directory, main } = files;
  const file = fileNameFor(name);
  const storage = await files.part(file);
  const inner: NewFiles = {
    name: storage.label,
    directory,
    main: storage,
    async part() {
      throw new Error('internal: a file of a bundle has no parts');
    },
    freeSpace: () => files.freeSpace(),
  };
  const image = await createFile(inner, options);
  const text = textFor(options.size, image.info.blockSize ?? SECTOR, file);
  await main.write(0, new TextEncoder().encode(text));
  await main.flush();
  const store = storeOfNew(main, text);
  const parts = [{ start: 0, length: options.size, name: file, image }];
  return new BundleImage({ store, id: DEFAULT_TOP, parts, mode: 'write', obstacle: null, others: async () => [] });
}

/** Size of a new bundle, from that of its file. */
export function measureBundle({ size }: FormatCreateOptions, file: Measure): Measure {
  const text = textFor(size, SECTOR, fileNameFor('disk.hdd')).length;
  return { required: file.required + text, fullyAllocated: file.fullyAllocated + text };
}

function fileNameFor(name: string): string {
  const base = baseName(name, name.replace(/[/\\][^/\\]*$/, ''));
  return `${base}.0.{${DEFAULT_TOP}}.hds`;
}

function textFor(size: number, unit: number, file: string): string {
  return newText({
    size: size / SECTOR,
    geometry: geometryFor(size),
    blocksize: unit / SECTOR,
    id: DEFAULT_TOP,
    file,
  });
}

/** The descriptor of a bundle that has no name yet: it changes with the next opening. */
function storeOfNew(storage: Storage, text: string): DescriptorStore {
  const files = {
    async open(): Promise<Storage> {
      return storage;
    },
  };
  return new DescriptorStore(files, 'write', { storage, descriptor: parseText(text, DESCRIPTOR) });
}
