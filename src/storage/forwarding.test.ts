/** Every member of the contract reaches the storage behind every wrapper. The lists follow the types. */
import { describe, expect, it } from 'vitest';
import { RestlessProvider } from '../../test/model/restless.ts';
import { FaultProvider } from '../testing/fault-storage.ts';
import { Random } from '../testing/random.ts';
import { RecordingProvider } from '../testing/recording-storage.ts';
import { rangeStorage } from '../vfs/range.ts';
import type { OperationOptions, StagedSet, Storage, StorageProvider } from './contract.ts';
import { ForwardingProvider, ForwardingStorage, forwardedProvider, forwardedStorage } from './forwarding.ts';
import { keptOpen } from './kept-open.ts';
import { MemoryProvider, MemoryStorage } from './memory.ts';
import { RenamedSet } from './staged-set.ts';
import { StorageView } from './view.ts';

const HOW = { punch: false };
const OPTIONS: OperationOptions = { signal: new AbortController().signal };

/** A use of each member; a new one does not compile without a line here. */
const USES: { readonly [K in keyof Required<Storage>]: (storage: Required<Storage>) => unknown } = {
  label: (storage) => storage.label,
  size: (storage) => storage.size,
  can: (storage) => storage.can,
  hints: (storage) => storage.hints,
  readNow: (storage) => storage.readNow(1, new Uint8Array(2)),
  read: (storage) => storage.read(1, new Uint8Array(2), OPTIONS),
  write: (storage) => storage.write(1, new Uint8Array(2), OPTIONS),
  extentAt: (storage) => storage.extentAt(1, OPTIONS),
  zero: (storage) => storage.zero(1, 2, HOW, OPTIONS),
  allocate: (storage) => storage.allocate(1, 2, OPTIONS),
  adviseSequential: (storage) => storage.adviseSequential(),
  resize: (storage) => storage.resize(70, OPTIONS),
  flush: (storage) => storage.flush(OPTIONS),
  identity: (storage) => storage.identity(OPTIONS),
  attributes: (storage) => storage.attributes(OPTIONS),
  place: (storage) => storage.place(OPTIONS),
  lock: (storage) => storage.lock('shared', {}, OPTIONS),
  lockState: (storage) => storage.lockState(OPTIONS),
  close: (storage) => storage.close(),
};
type Member = keyof typeof USES;
const MEMBERS = Object.keys(USES) as Member[];
/** These return at once or end the handle: they take no signal. */
const WITHOUT_SIGNAL: readonly Member[] = ['label', 'size', 'can', 'hints', 'readNow', 'adviseSequential', 'close'];

/** A storage that has every member, and notes which of them were used and with which signal. */
class Inner {
  readonly used = new Map<string, unknown>();
  readonly storage: Storage;

  constructor(lacks: readonly Member[] = []) {
    const memory = Object.assign(new MemoryStorage('inner'), {
      hints: { align: 512, transfer: 4096, parallel: 2 },
      allocate: async () => {},
      adviseSequential: () => {},
      attributes: async () => null,
      place: async () => null,
    });
    void memory.write(0, new Uint8Array(64));
    this.storage = new Proxy<Storage>(memory, {
      get: (target, name) => {
        if (lacks.includes(name as Member)) return undefined;
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') {
          this.used.set(String(name), undefined);
          return value;
        }
        return (...args: unknown[]) => {
          this.used.set(String(name), args.at(-1));
          return value.apply(target, args);
        };
      },
    });
  }
}

/** Makes a storage through a provider that wraps what another one makes. */
function through(inner: Storage, wrap: (provider: StorageProvider) => StorageProvider): Promise<Storage> {
  return wrap(forwardedProvider(new MemoryProvider(), { create: async () => inner })).create('/file');
}

interface Wrapper {
  readonly name: string;
  wrap(inner: Storage): Storage | Promise<Storage>;
  /** Members that stop here on purpose. */
  readonly own: readonly Member[];
}

const WRAPPERS: readonly Wrapper[] = [
  { name: 'ForwardingStorage', wrap: (inner) => new ForwardingStorage(inner), own: [] },
  { name: 'forwardedStorage', wrap: (inner) => forwardedStorage(inner, { label: 'own' }), own: ['label'] },
  { name: 'keptOpen', wrap: (inner) => keptOpen(inner).storage, own: ['close'] },
  { name: 'StorageView', wrap: (inner) => new StorageView(inner), own: [] },
  {
    name: 'rangeStorage',
    wrap: (inner) => rangeStorage(inner, 0, undefined, { closeOuter: true }),
    own: ['place', 'allocate'],
  },
  // Reads that do not wait cannot be counted.
  { name: 'FaultProvider', wrap: (inner) => through(inner, (files) => new FaultProvider(files)), own: ['readNow'] },
  { name: 'RecordingProvider', wrap: (inner) => through(inner, (files) => new RecordingProvider(files)), own: [] },
  {
    name: 'RestlessProvider',
    wrap: (inner) => through(inner, (files) => new RestlessProvider(files, new Random(1))),
    own: [],
  },
];

describe.each(WRAPPERS)('$name', ({ wrap, own }) => {
  it.each(MEMBERS.filter((member) => !own.includes(member)))('hands on %s', async (member) => {
    const inner = new Inner();
    const storage = (await wrap(inner.storage)) as Required<Storage>;
    inner.used.clear();
    // A few times, since one of the wrappers refuses by chance.
    for (let n = 0; n < 5 && !inner.used.has(member); n++) await USES[member](storage);
    const taken = ['label', 'can'].includes(member) ? storage[member] : inner.used.has(member);
    expect(taken).toBeTruthy();
    if (!WITHOUT_SIGNAL.includes(member)) expect(inner.used.get(member)).toBe(OPTIONS);
  });

  it('lacks what the inner one lacks', async () => {
    const lacking: Member[] = ['readNow', 'allocate', 'adviseSequential', 'place'];
    const storage = await wrap(new Inner(lacking).storage);
    for (const member of lacking) expect(storage[member]).toBeUndefined();
  });
});

describe('ForwardingProvider', () => {
  /** A use of each member; a new one does not compile without a line here. */
  const uses: { readonly [K in keyof Required<StorageProvider>]: (provider: Required<StorageProvider>) => unknown } = {
    open: (provider) => provider.open('/a', 'read'),
    create: (provider) => provider.create('/b'),
    rename: (provider) => provider.rename('/a', '/c', { replace: true }),
    link: (provider) => provider.link('/a', '/d'),
    remove: (provider) => provider.remove('/a'),
    makeDirectory: (provider) => provider.makeDirectory('/e'),
    removeDirectory: (provider) => provider.removeDirectory('/f'),
    list: (provider) => provider.list('/'),
    entries: (provider) => provider.entries('/'),
    resolve: (provider) => provider.resolve('a', '/x'),
    directory: (provider) => provider.directory('/a'),
    lookUp: (provider) => provider.lookUp('/a'),
    realName: (provider) => provider.realName('/a'),
    temporaryName: (provider) => provider.temporaryName('/a'),
    publishMode: (provider) => provider.publishMode('/a'),
    publishLike: (provider) => provider.publishLike('/a', { like: null }),
    syncNames: (provider) => provider.syncNames('/'),
    freeSpace: (provider) => provider.freeSpace('/'),
    stage: (provider) => provider.stage(),
  };

  it.each(Object.keys(uses) as (keyof typeof uses)[])('hands on %s', async (member) => {
    const used: unknown[] = [];
    const files = Object.assign(new MemoryProvider(), { stage: (): StagedSet => new RenamedSet(new MemoryProvider()) });
    await (await files.create('/a')).close();
    const noting = new Proxy<StorageProvider>(files, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          used.push(name);
          return value.apply(target, args);
        };
      },
    });
    await uses[member](new ForwardingProvider(noting) as Required<StorageProvider>);
    expect(used).toContain(member);
  });

  it('lacks what the inner one lacks, and what it is told to lack', () => {
    const files = new MemoryProvider();
    expect(new ForwardingProvider(files).link).toBeDefined();
    expect(new ForwardingProvider(files, ['link']).link).toBeUndefined();
    const without = new ForwardingProvider(files, ['link']);
    expect(new ForwardingProvider(without).link).toBeUndefined();
  });
});

it('a kept storage refuses every call once it is closed', async () => {
  const inner = new Inner();
  const { storage, release } = keptOpen(inner.storage);
  await storage.close();
  await storage.close();
  inner.used.clear();
  for (const member of MEMBERS) {
    if (['label', 'size', 'can', 'hints', 'close'].includes(member)) continue;
    const use = async () => USES[member](storage as Required<Storage>);
    await expect(use(), member).rejects.toMatchObject({ kind: 'io' });
    expect(inner.used.has(member)).toBe(false);
  }
  await release();
  expect(inner.used.has('close')).toBe(true);
});
