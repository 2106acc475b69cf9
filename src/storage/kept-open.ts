/** A storage whose lock must outlive the handle that somebody else closes. */
import { closedStorage } from './checks.ts';
import type { Storage } from './contract.ts';
import { ForwardingStorage } from './forwarding.ts';

/** What `keptOpen` makes. */
export interface KeptOpen {
  /** Closing it keeps the storage behind it, and its lock. */
  readonly storage: Storage;
  /** Closes the storage behind it. */
  release(): Promise<void>;
}

/** Hands a storage on in a form that can be closed without giving its lock back. */
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
