/**
 * Arguments of the wrong kind, for everything that the package exports: an `ImageError` of kind `invalid-argument` that
 * names the argument, never a TypeError and never an answer. The tables are compared with the exports, so that nothing can
 * be forgotten.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import * as main from '../../src/index.ts';
import { Disk, ImageError, type Registry } from '../../src/index.ts';
import * as storage from '../../src/storage/index.ts';
import * as testing from '../../src/testing/index.ts';

/** Arguments that an untyped program may pass. */
const VALUES: readonly (readonly [string, unknown])[] = [
  ['undefined', undefined],
  ['null', null],
  ['0', 0],
  ['-1', -1],
  ['0.5', 0.5],
  ['NaN', Number.NaN],
  ['true', true],
  ['an empty text', ''],
  ['a text', 'some text'],
  ['{}', {}],
  ['[]', []],
  ['[null]', [null]],
  ['a function', () => {}],
  ['a bigint', 10n],
];

/** An argument, and which of the values it takes. */
interface Arg {
  readonly name: string;
  readonly value: unknown;
  readonly takes: (value: unknown) => boolean;
}

type Fits = (value: unknown) => boolean;
const isNumber: Fits = (value) => typeof value === 'number' && !Number.isNaN(value);
const isText: Fits = (value) => typeof value === 'string';
const isEmpty: Fits = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
const nothing: Fits = () => false;

const arg = (name: string, value: unknown, takes: Fits = nothing): Arg => ({ name, value, takes });
const options = (value: unknown = {}, name = 'options'): Arg =>
  arg(name, value, (given) => given === undefined || isEmpty(given));
const needed = (value: unknown, name = 'options'): Arg => arg(name, value);
const number = (name: string, value: number): Arg => arg(name, value, isNumber);
const whole = (name: string, value: number): Arg =>
  arg(name, value, (given) => isNumber(given) && Number.isInteger(given) && Number(given) >= 0);
const text = (name: string, value: string): Arg => arg(name, value, isText);
/** A name: a non-empty text. */
const named = (name: string, value: unknown): Arg => arg(name, value, (given) => isText(given) && given !== '');
const list = (name: string, value: readonly unknown[]): Arg =>
  arg(name, value, (given) => Array.isArray(given) && given.length === 0);
const anyList = (name: string, value: readonly unknown[]): Arg => arg(name, value, Array.isArray);
const callback = (name: string, value: unknown): Arg => arg(name, value, (given) => typeof given === 'function');
/** May be left out. */
const optional = (one: Arg): Arg => ({ ...one, takes: (value) => value === undefined || one.takes(value) });
const nullable = (one: Arg): Arg => ({ ...one, takes: (value) => value === null || one.takes(value) });

interface Call {
  readonly args: readonly Arg[];
  /** Instead of calling the export. */
  readonly call?: (...args: readonly unknown[]) => unknown;
}
/** Null: it takes anything, or nothing. */
type Table = Readonly<Record<string, Call | null>>;

const provider = new storage.MemoryProvider();
const at = (name: string) => ({ provider, name });
const blob = new Blob([new Uint8Array(1024)]);
let disk: Disk;
let file: storage.Storage;
const log = new testing.OperationLog();

beforeAll(async () => {
  disk = await Disk.create(at('/disk.qcow2'), { format: 'qcow2', size: 2 ** 20 });
  file = await provider.create('/file');
});

function mainTable(): Table {
  const source = (name = 'image') => named(name, at('/disk.qcow2'));
  const target = (name = 'target') => named(name, at('/new'));
  const image = arg('number', 'last', isNumber);
  return {
    CACHES: null,
    Disk: null,
    FILTERS: null,
    FORMATS: null,
    ImageError: null,
    IoBufferManager: { args: [options()], call: (one) => new main.IoBufferManager(one as object) },
    IoIterator: {
      args: [arg('device', disk), list('segments', [{ start: 0, size: 512 }]), options()],
      call: (...args) => Reflect.construct(main.IoIterator, args),
    },
    IoQueue: { args: [options()], call: (one) => new main.IoQueue(one as object) },
    LIMITS: null,
    OPEN_FLAGS: null,
    PLUGIN_VERSION: null,
    PlainImage: null,
    Plugins: {
      args: [arg('registry', main.defaultRegistry())],
      call: (one) => new main.Plugins(one as Registry),
    },
    Registry: {
      args: [list('formats', main.FORMATS), optional(list('filters', [])), optional(list('caches', []))],
      call: (...args) => Reflect.construct(main.Registry, args),
    },
    amendImage: { args: [source(), arg('values', { a: 1 }, isEmpty), options()] },
    checkCache: { args: [source('cache'), options()] },
    checkImage: { args: [source(), options()] },
    childrenOf: { args: [source(), options()] },
    compare: { args: [named('a', disk), named('b', disk), options()] },
    convert: { args: [named('source', disk), target(), options()] },
    convertRegions: { args: [arg('list', disk.regions), arg('unit', 'blocks')] },
    copyChain: { args: [arg('source', disk), callback('nameOf', () => '/x'), options()] },
    copyDirectory: { args: [source(), target(), options()] },
    copyImage: { args: [arg('source', disk), image, target(), options()] },
    copyInto: { args: [arg('source', disk), image, arg('target', disk), options()] },
    createCache: { args: [target('cache'), needed({ size: 2 ** 21 })] },
    createImage: { args: [target(), arg('options', { size: 512 }, isEmpty)] },
    createIso: { args: [target(), named('directory', '/x'), options()] },
    createRawDisk: { args: [target(), named('device', '/x'), options()] },
    defaultRegistry: null,
    defineFormat: { args: [arg('definition', { name: 'x' })] },
    describeError: { args: [arg('error', new ImageError('io', 'x'))] },
    detectFormat: { args: [source('source'), options()] },
    diskFile: { args: [arg('device', disk), options()] },
    dropCache: { args: [source('cache'), options()] },
    fileHandle: { args: [arg('bytes', disk), options()] },
    fileObjectStorage: { args: [arg('file', main.diskFile(disk)), options()] },
    fileOpenFlags: { args: [whole('flags', 0), arg('create', true, (value) => value === true)] },
    floppyType: { args: [number('size', 1_474_560)] },
    handleStorage: { args: [arg('handle', main.fileHandle(disk)), options()] },
    insideSource: { args: [arg('outer', disk), options({}, 'place'), options()] },
    inspect: { args: [source('source'), options()] },
    inspectCache: { args: [source('cache'), options()] },
    isImageError: null,
    listPartitions: { args: [arg('disk', disk), options()] },
    measure: {
      args: [
        arg('source', disk, (value) => isNumber(value) || (isText(value) && value !== '')),
        needed({ format: 'vdi' }),
      ],
    },
    moveImage: { args: [source(), target(), options()] },
    openChainSpec: { args: [text('text', 'vd(a)'), options()] },
    openOptionsOf: { args: [whole('flags', 0)] },
    parseChainSpec: { args: [text('text', 'vd(a)')] },
    partitionOf: { args: [arg('disk', disk), number('number', 1), options()] },
    plainInfo: { args: [arg('own', { format: 'x', virtualSize: 512, blockSize: null })] },
    printable: { args: [text('text', 'x')] },
    rangeStorage: { args: [arg('outer', disk), number('offset', 0), optional(number('length', 512)), options()] },
    readableStorage: { args: [arg('stream', new Blob(['x']).stream()), needed({ size: 1 })] },
    readableStream: { args: [arg('bytes', disk), options()] },
    rebaseImage: { args: [source(), nullable(source('parent')), options()] },
    removeImage: { args: [source(), options()] },
    renameImage: { args: [source(), named('newName', '/new'), options()] },
    setImage: { args: [source(), arg('changes', {}, isEmpty), options()] },
    storageFile: { args: [arg('storage', file), options()] },
    summarize: { args: [list('findings', [])] },
    tcpConnector: null,
    writableStorage: { args: [arg('stream', new WritableStream()), options()] },
    writableStream: { args: [arg('bytes', disk), options()] },
  };
}

function storageTable(): Table {
  const of =
    (make: new (...args: never[]) => unknown) =>
    (...args: readonly unknown[]) =>
      Reflect.construct(make, args);
  return {
    BlobProvider: {
      args: [arg('blob', blob), optional(named('name', 'x'))],
      call: (...args) => Reflect.apply(storage.BlobProvider.prototype.add, new storage.BlobProvider(), args),
    },
    BlobStorage: { args: [arg('blob', blob), optional(text('label', 'x'))], call: of(storage.BlobStorage) },
    ForwardingProvider: {
      args: [arg('inner', provider), optional(list('absent', ['link']))],
      call: of(storage.ForwardingProvider),
    },
    ForwardingStorage: {
      args: [arg('inner', file), optional(list('absent', ['place']))],
      call: of(storage.ForwardingStorage),
    },
    MemoryProvider: null,
    MemoryStorage: { args: [optional(text('label', 'x'))], call: of(storage.MemoryStorage) },
    OverlayStorage: { args: [arg('base', file)], call: of(storage.OverlayStorage) },
    StorageView: { args: [arg('inner', file), options()], call: of(storage.StorageView) },
    defaultProvider: null,
    denyAll: null,
    forwardedProvider: { args: [arg('inner', provider), arg('own', {}, isEmpty)] },
    forwardedStorage: { args: [arg('inner', file), arg('own', {}, isEmpty)] },
    isPromise: null,
    openGate: { args: [needed({ roots: [], provider })] },
    readPadded: { args: [arg('storage', file), whole('offset', 0), arg('target', new Uint8Array(1))] },
    stageTarget: { args: [arg('target', at('/new')), arg('how', { force: false })] },
    tcpConnector: null,
    withoutHoles: { args: [arg('provider', provider)] },
  };
}

function testingTable(): Table {
  const of =
    (make: new (...args: never[]) => unknown) =>
    (...args: readonly unknown[]) =>
      Reflect.construct(make, args);
  const suite = { provider, image: '/x', size: 512, build: async () => {}, open: async () => disk, sessions: [] };
  const run = { suite, log, model: new testing.SectorModel(1), builtAt: 0, openedAt: [] };
  const parts = { disk, model: new testing.SectorModel(1), log, seed: 1 };
  const flush = { id: 0, number: 0, file: null, directory: '/' };
  const operation = { id: 0, kind: 'create', to: '/x' };
  return {
    AllowedContents: {
      args: [anyList('contents', [[0]]), optional(anyList('sizes', [1]))],
      call: of(testing.AllowedContents),
    },
    CrashSession: { args: [arg('parts', parts)], call: of(testing.CrashSession) },
    FaultProvider: { args: [arg('inner', provider), options({}, 'plan')], call: of(testing.FaultProvider) },
    OperationLog: null,
    Random: { args: [number('seed', 1)], call: of(testing.Random) },
    RecordingProvider: { args: [arg('inner', provider), options()], call: of(testing.RecordingProvider) },
    SectorModel: {
      args: [whole('sectors', 1), optional(callback('hasInitial', () => true))],
      call: of(testing.SectorModel),
    },
    SectorReader: null,
    SnapshotProvider: { args: [arg('rules', provider)], call: of(testing.SnapshotProvider) },
    checkCrashRun: { args: [arg('run', run), options()] },
    completeState: { args: [arg('log', log), arg('rules', provider), number('cutAt', 0)] },
    conformanceCases: { args: [needed({ registry: main.defaultRegistry(), format: 'vdi' })] },
    crashStates: { args: [arg('log', log), arg('rules', provider), options()] },
    describeFlush: { args: [arg('flush', flush)] },
    describeOperation: { args: [arg('operation', operation)] },
    describeSector: { args: [arg('bytes', new Uint8Array(512))] },
    durablePositions: { args: [arg('log', log), optional(number('dropFlush', 0))] },
    flushCount: { args: [arg('log', log)] },
    formatCrashSuite: { args: [needed({ registry: main.defaultRegistry(), format: 'vdi' })] },
    initialBytes: { args: [number('sector', 0), whole('count', 1)] },
    randomTraffic: { args: [arg('session', new testing.CrashSession(parts)), needed({ operations: 1 })] },
    recordCrashRun: { args: [arg('suite', suite)] },
    runCrashSuite: { args: [arg('suite', suite), options()] },
    unmissedFlushes: { args: [arg('run', run), options()] },
    writeBytes: { args: [arg('operation', { number: 1, sector: 0, count: 1 })] },
  };
}

/** Methods of a disk and of its parts. Null: it takes nothing. */
function methodTables(): readonly (readonly [string, object, Table])[] {
  const image = (name: string) => arg(name, 'last', isNumber);
  const bytes = (name: string) => arg(name, new Uint8Array(512));
  const buffers = (name: string) => list(name, [new Uint8Array(512)]);
  const source = (name: string) => named(name, at('/new'));
  const name = text('name', 'x');
  const own: Table = {
    attributes: null,
    close: null,
    closeLast: { args: [options()] },
    commit: { args: [options()] },
    compact: { args: [options()] },
    compress: { args: [whole('offset', 0), bytes('bytes'), options()] },
    createDiff: { args: [source('target'), options()] },
    discard: { args: [list('ranges', [{ offset: 0, length: 512 }]), options()] },
    dump: null,
    extentAt: { args: [number('offset', 0), number('length', 512)] },
    extents: { args: [optional(number('start', 0)), optional(number('end', 512)), options()] },
    fileSizes: { args: [image('number')] },
    filesInUse: null,
    flush: { args: [options()] },
    identities: { args: [optional(arg('of', 'last'))] },
    layers: { args: [whole('first', 0), whole('last', 0)] },
    merge: { args: [image('from'), image('to'), options()] },
    metadata: { args: [image('number'), options()] },
    read: { args: [number('offset', 0), buffers('buffers'), options()] },
    readNow: { args: [number('offset', 0), bytes('target')] },
    rebase: { args: [nullable(source('parent')), options()] },
    resize: { args: [number('size', 2 ** 21), options()] },
    set: { args: [image('number'), arg('changes', {}, isEmpty)] },
    setOpenOptions: { args: [image('number'), arg('changes', {}, isEmpty)] },
    write: { args: [number('offset', 0), buffers('buffers'), options()] },
    zero: { args: [number('offset', 0), number('length', 512), options()] },
  };
  return [
    ['disk', disk, own],
    [
      'disk.snapshots',
      disk.snapshots,
      {
        create: { args: [name, options()] },
        apply: { args: [text('idOrName', 'x'), options()] },
        delete: { args: [text('idOrName', 'x'), options()] },
        rename: { args: [text('idOrName', 'x'), name] },
      },
    ],
    [
      'disk.bitmaps',
      disk.bitmaps,
      {
        add: { args: [name, options()] },
        remove: { args: [name] },
        clear: { args: [name] },
        enable: { args: [name] },
        disable: { args: [name] },
        merge: { args: [name, list('sources', ['y']), options()] },
      },
    ],
    [
      'disk.filters',
      disk.filters,
      {
        add: { args: [named('filter', 'byteswap'), options()] },
        remove: { args: [options({}, 'directions')] },
        removeAll: null,
        prepare: { args: [options()] },
      },
    ],
    [
      'disk.cache',
      disk.cache,
      {
        open: { args: [source('cache'), options()] },
        create: { args: [source('cache'), needed({ size: 2 ** 21 })] },
        close: { args: [options()] },
        attach: null,
      },
    ],
  ];
}

/** The error of a call, thrown or rejected, or undefined. Generators are started. */
async function outcomeOf(call: () => unknown): Promise<unknown> {
  try {
    const result = await call();
    if (typeof result === 'object' && result !== null && Symbol.asyncIterator in result && 'next' in result) {
      await (result as AsyncGenerator).next();
    }
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Calls with every wrong value in every place; sentences about what went wrong. */
async function complaintsOf(
  what: string,
  { args }: Call,
  call: (...args: readonly unknown[]) => unknown,
): Promise<string[]> {
  const complaints: string[] = [];
  for (const [place, one] of args.entries()) {
    for (const [title, value] of VALUES) {
      if (one.takes(value)) continue;
      const given = args.map((other, at_) => (at_ === place ? value : other.value));
      const error = await outcomeOf(() => call(...given));
      const { kind, context } = error instanceof ImageError ? error : { kind: null, context: {} };
      // Whatever number is no place on the disk is told as such.
      if (kind === 'out-of-bounds' && typeof value === 'number') continue;
      if (kind === 'invalid-argument' && String((context as { field?: string }).field).startsWith(one.name)) continue;
      complaints.push(
        `${what} with ${title} as ${one.name}: ${error instanceof Error ? `${error.name}: ${error.message}, ${JSON.stringify(context)}` : 'no error'}`,
      );
    }
  }
  return complaints;
}

async function complaintsOfTable(module: Readonly<Record<string, unknown>>, table: Table): Promise<string[]> {
  const complaints: string[] = [];
  for (const [name, entry] of Object.entries(table)) {
    if (entry === null) continue;
    const call =
      entry.call ?? ((...args: readonly unknown[]) => Reflect.apply(module[name] as () => unknown, module, args));
    complaints.push(...(await complaintsOf(name, entry, call)));
  }
  return complaints;
}

describe.each<[string, Readonly<Record<string, unknown>>, () => Table]>([
  ['vdkit', main, mainTable],
  ['vdkit/storage', storage, storageTable],
  ['vdkit/testing', testing, testingTable],
])('%s', (_, module, table) => {
  it('is tried with everything that it exports', () => {
    expect(Object.keys(table()).sort()).toEqual(Object.keys(module).sort());
  });

  it('refuses arguments of the wrong kind, and names them', async () => {
    expect(await complaintsOfTable(module, table())).toEqual([]);
  });
});

describe('an open disk', () => {
  it('is tried with all of its methods', () => {
    for (const [name, part, table] of methodTables()) {
      const methods = Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(part)))
        .filter(([key, { value }]) => typeof value === 'function' && key !== 'constructor')
        .map(([key]) => key);
      expect(Object.keys(table).sort(), name).toEqual(methods.sort());
    }
  });

  it('refuses arguments of the wrong kind, and names them', async () => {
    const complaints: string[] = [];
    for (const [name, part, table] of methodTables()) {
      for (const [method, entry] of Object.entries(table)) {
        if (entry === null) continue;
        const call = (...args: readonly unknown[]) =>
          Reflect.apply(Reflect.get(part, method) as () => unknown, part, args);
        complaints.push(...(await complaintsOf(`${name}.${method}`, entry, call)));
      }
    }
    expect(complaints).toEqual([]);
  });

  it('is opened and made with arguments of the right kind only', async () => {
    const open: Call = {
      args: [arg('source', at('/disk.qcow2'), (value) => isText(value) && value !== ''), options()],
    };
    const create: Call = { args: [named('target', at('/new')), arg('options', { size: 512 }, isEmpty)] };
    const complaints = [
      // An empty list names no image, which has a separate error.
      ...(await complaintsOf(
        'Disk.open',
        {
          args: open.args.map((one) => ({
            ...one,
            takes: (value) => one.takes(value) || (Array.isArray(value) && value.length === 0),
          })),
        },
        (...args) => Reflect.apply(Disk.open, Disk, args),
      )),
      ...(await complaintsOf('Disk.create', create, (...args) => Reflect.apply(Disk.create, Disk, args))),
    ];
    expect(complaints).toEqual([]);
  });

  it.each([
    ['parallel', [0, -1, 0.5, Number.NaN, '4', null]],
    ['rateLimit', [-1, Number.NaN, '1M', null]],
    ['sparseSize', [-1, 0.5, Number.NaN, '4K']],
    ['size', [Number.NaN, '1M', null, {}]],
    ['signal', [{}, 1, null]],
    ['onProgress', [{}, 1, null]],
    ['format', [1, '', null]],
    ['allow', [1, [1], {}]],
    ['provider', [1, {}]],
    ['variant', ['fixed', [1]]],
    ['into', [1, 'yes', null]],
  ])('convert refuses wrong values of the option %s, and names it', async (name, values) => {
    for (const value of values) {
      const error = await outcomeOf(() => main.convert(disk, at('/new'), { [name]: value } as object));
      expect(error, `${name}: ${value}`).toMatchObject({
        kind: 'invalid-argument',
        context: { field: expect.stringContaining(`options.${name}`) },
      });
    }
    expect(await provider.lookUp('/new')).toBeNull();
  });
});

describe('a closed disk', () => {
  it('refuses everything but being closed again', async () => {
    const closed = await Disk.create(at('/closed.qcow2'), { format: 'qcow2', size: 2 ** 20 });
    await closed.close();
    const open = disk;
    disk = closed;
    const tables = methodTables();
    disk = open;
    const complaints: string[] = [];
    for (const [name, part, table] of tables) {
      for (const [method, entry] of Object.entries(table)) {
        if (method === 'close' && name === 'disk') continue;
        const args = (entry?.args ?? (method === 'attach' ? [arg('entry', { file: at('/c') })] : [])).map(
          ({ value }) => value,
        );
        const error = await outcomeOf(() => Reflect.apply(Reflect.get(part, method) as () => unknown, part, args));
        const told = error instanceof ImageError && error.kind === 'invalid-argument' && /closed/.test(error.message);
        if (!told)
          complaints.push(
            `${name}.${method}: ${error instanceof Error ? `${error.name}: ${error.message}` : 'no error'}`,
          );
      }
    }
    expect(complaints).toEqual([]);
    await closed.close();
  });

  it('is compared, converted, copied and measured by nothing', async () => {
    const closed = await Disk.create(at('/shut.qcow2'), { format: 'qcow2', size: 2 ** 20 });
    await closed.close();
    const calls: readonly (() => Promise<unknown>)[] = [
      () => main.compare(closed, closed),
      () => main.compare(disk, closed),
      () => main.compare(closed, disk),
      () => main.convert(closed, at('/no'), { format: 'vdi' }),
      () => main.copyImage(closed, 'last', at('/no'), { format: 'vdi' }),
      () => main.copyChain(closed, () => at('/no')),
      () => main.copyInto(closed, 'last', disk),
      () => main.copyInto(disk, 'last', closed),
      () => main.measure(closed, { format: 'vdi' }),
      () => main.listPartitions(closed),
    ];
    for (const call of calls) {
      expect(await outcomeOf(call), `${call}`).toMatchObject({
        kind: 'invalid-argument',
        message: 'The disk is closed',
      });
      expect(await provider.lookUp('/no')).toBeNull();
    }
  });
});

describe('compare', () => {
  it('takes names, opens them for reading, and closes them again', async () => {
    for (const name of ['/one.vdi', '/two.qcow2']) {
      await using made = await Disk.create(at(name), { size: 2 ** 20 });
      await made.write(512, Uint8Array.of(7));
    }
    expect(await main.compare('/one.vdi', '/two.qcow2', { provider })).toMatchObject({ same: true });
    expect(await main.compare(at('/one.vdi'), at('/two.qcow2'))).toMatchObject({ same: true });
    {
      await using two = await Disk.open(at('/two.qcow2'), { mode: 'write' });
      await two.write(512, Uint8Array.of(8));
      expect(await main.compare(at('/one.vdi'), two)).toMatchObject({ same: false, firstDifference: 512 });
    }
    // Nothing is open any more.
    await using again = await Disk.open(at('/one.vdi'), { mode: 'write' });
    await again.write(512, Uint8Array.of(8));
    await again.flush();
    await expect(main.compare(at('/one.vdi'), at('/two.qcow2'))).rejects.toMatchObject({ kind: 'locked' });
    await expect(main.compare('/none', disk, { provider })).rejects.toMatchObject({ kind: 'not-found' });
  });
});
