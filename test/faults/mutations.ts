/** Changes of images and storages that mutants are made of, and those that suit every format. */
import { FORMATS } from '../../src/formats/index.ts';
import type { Image } from '../../src/image/contract.ts';
import type { Storage, StorageProvider } from '../../src/storage/contract.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';
import type { Mutation } from '../formats/crash-kit.ts';

/** Images behave otherwise. */
export const images = (own: (image: Image) => Partial<Image>): Mutation => ({
  registry: registryWith(FORMATS, (image) => overriding(image, own(image))),
});

/** The storages of a provider behave otherwise. */
export const storages = (own: (storage: Storage) => Partial<Storage>): Mutation => ({
  wrap: (provider) =>
    overriding<StorageProvider>(provider, {
      open: async (name, mode) => {
        const storage = await provider.open(name, mode);
        return overriding(storage, own(storage));
      },
    }),
});

/** Entries are there before what they refer to. */
export const publishBeforeData = (): Mutation =>
  images((image) => ({
    seal() {
      const { stage, root, publish } = image.seal();
      return { stage: [...stage, ...publish.flat()], root, publish: [] };
    },
  }));

/** Writes the staged metadata last. */
export const stageLast = (): Mutation =>
  images((image) => ({
    seal() {
      const { stage, root, publish } = image.seal();
      return { stage: [], root, publish: [...publish, stage] };
    },
  }));

/** The name of a new image is not durable. */
export const missingDirectoryFlush = (): Mutation => ({
  wrap: (provider) => overriding<StorageProvider>(provider, { syncNames: async () => {} }),
});

/** The second answer of a medium that failed is believed. */
export const retriedFlush = (): Mutation =>
  storages((storage) => ({ flush: () => storage.flush().catch(() => storage.flush()) }));
