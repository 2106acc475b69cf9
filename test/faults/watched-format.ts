/** Formats whose images tell an operation log what they are about to write, so that metadata can be told from data. */

import type { Format, Image } from '../../src/image/contract.ts';
import type { Registry } from '../../src/image/registry.ts';
import type { OperationLog } from '../../src/testing/index.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';

/** Payload of the marks that end what an image writes by itself. */
export interface Ended {
  readonly ok: boolean;
}

/** A registry whose images mark in the log what is metadata. */
export function watchedRegistry(formats: readonly Format[], log: OperationLog): Registry {
  const watched = formats.map((format) => {
    const { create } = format;
    if (create === undefined) return format;
    return overriding(format, { create: (files, options) => noted(log, () => create.call(format, files, options)) });
  });
  return registryWith(watched, (image) => watchedImage(image, log));
}

function watchedImage(image: Image, log: OperationLog): Image {
  const { resize, trim } = image;
  return overriding(image, {
    seal() {
      const sealed = image.seal();
      log.mark('sealed', sealed);
      return sealed;
    },
    settle(sealed, ok) {
      image.settle(sealed, ok);
      log.mark('settled', { ok } satisfies Ended);
    },
    beginChanges: (how) => noted(log, () => image.beginChanges(how)),
    ...(resize === undefined ? {} : { resize: (size, how) => noted(log, () => resize.call(image, size, how)) }),
    ...(trim === undefined ? {} : { trim: () => noted(log, () => trim.call(image)) }),
  });
}

/** Counts as metadata everything written in the meantime, or at least as nothing that a guest waits for. */
async function noted<T>(log: OperationLog, run: () => Promise<T>): Promise<T> {
  log.mark('metadata begins');
  let ok = false;
  try {
    const result = await run();
    ok = true;
    return result;
  } finally {
    log.mark('metadata ended', { ok } satisfies Ended);
  }
}
