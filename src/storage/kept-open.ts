/** A storage whose lock outlives its handle. */
import { closedStorage } from './checks.ts';
import type { Storage } from './contract.ts';
import { ForwardingStorage } from './forwarding.ts';

/** Result of `keptOpen`. */
export interface KeptOpen {
  /** Closing it leaves the inner storage open and locked. */
  readonly storage: Storage;
  /** Closes the inner storage. */
  release(): Promise<void>;
}

/** Wraps a storage so that it can be closed without releasing its lock. */
export function keptOpen(inner: Storage): KeptOpen {
  return { storage: new KeptStorage(inner), release: () => inner.close() };
}

/** Hands calls on as they are, until it is closed: one more layer of promises for each write would be felt. */
class KeptStorage extends ForwardingStorage {
  override async close(): Promise<void> {
    this.inner = closedForm(this.inner);
  }
}

/** Calls that answer at once, and so throw. */
const AT_ONCE: ReadonlySet<string | symbol> = new Set<keyof Storage>(['readNow', 'extentAt', 'adviseSequential']);

/** A storage whose calls are refused, all but `close`. */
function closedForm(storage: Storage): Storage {
  const refuse = (): never => {
    throw closedStorage(storage.label);
  };
  return new Proxy(storage, {
    get(inner, name) {
      const value: unknown = Reflect.get(inner, name, inner);
      if (typeof value !== 'function') return value;
      if (name === 'close') return async () => {};
      return AT_ONCE.has(name) ? refuse : async () => refuse();
    },
  });
}
