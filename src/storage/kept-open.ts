/** A storage whose lock must outlive the handle that somebody else closes. */
import { closedStorage } from './checks.ts';
import type { Storage } from './contract.ts';

/** What `keptOpen` makes. */
export interface KeptOpen {
  /** Closing it keeps the storage behind it, and its lock. */
  readonly storage: Storage;
  /** Closes the storage behind it. */
  release(): Promise<void>;
}

/** Hands a storage on in a form that can be closed without giving its lock back. */
export function keptOpen(inner: Storage): KeptOpen {
  let closed = false;
  /** Gives the inner promise itself: one more layer of promises for each write would be felt. */
  const whenOpen = <T>(run: () => Promise<T>): Promise<T> =>
    closed ? Promise.reject(closedStorage(inner.label)) : run();
  const checkOpen = (): void => {
    if (closed) throw closedStorage(inner.label);
  };
  const { readNow, allocate, attributes } = inner;
  const storage: Storage = {
    label: inner.label,
    get size() {
      return inner.size;
    },
    get can() {
      return inner.can;
    },
    ...(readNow === undefined
      ? {}
      : {
          readNow(offset, target) {
            checkOpen();
            return readNow.call(inner, offset, target);
          },
        }),
    read: (offset, target) => whenOpen(() => inner.read(offset, target)),
    write: (offset, source) => whenOpen(() => inner.write(offset, source)),
    extentAt(offset) {
      checkOpen();
      return inner.extentAt(offset);
    },
    zero: (offset, length, how) => whenOpen(() => inner.zero(offset, length, how)),
    ...(allocate === undefined
      ? {}
      : { allocate: (offset, length) => whenOpen(() => allocate.call(inner, offset, length)) }),
    resize: (size) => whenOpen(() => inner.resize(size)),
    flush: () => whenOpen(() => inner.flush()),
    identity: () => whenOpen(() => inner.identity()),
    ...(attributes === undefined ? {} : { attributes: () => whenOpen(() => attributes.call(inner)) }),
    lock: (mode, how) => whenOpen(() => inner.lock(mode, how)),
    lockState: () => whenOpen(() => inner.lockState()),
    async close() {
      closed = true;
    },
  };
  return { storage, release: () => inner.close() };
}
