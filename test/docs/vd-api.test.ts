/** docs/vd-api.md names all of vd.h, and only what there is here; what no other test calls is called below. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';
import type { ChainDisk } from '../../src/disk/disk.ts';
import { HEADER } from '../../src/formats/vdi/layout.ts';
import { HEADER as VHD_HEADER } from '../../src/formats/vhd/layout.ts';
import { SPARSE_HEADER } from '../../src/formats/vmdk/layout.ts';
import * as vdkit from '../../src/index.ts';
import { createImage, Disk, defaultRegistry, inspect, Registry } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { RecordingProvider } from '../../src/testing/recording-storage.ts';
import { tableRows, testProblem } from './named-test.ts';

/** The functions of vd.h, in the order of the header. */
const FUNCTIONS = `
  VDInit VDShutdown VDPluginLoadFromFilename VDPluginLoadFromPath VDPluginUnloadFromFilename VDPluginUnloadFromPath
  VDBackendInfo VDBackendInfoOne VDFilterInfo VDFilterInfoOne VDCreate VDDestroy VDGetFormat VDOpen VDCacheOpen
  VDFilterAdd VDCreateBase VDCreateDiff VDCreateCache VDMerge VDCopyEx VDCopy VDCompact VDResize VDPrepareWithFilters
  VDClose VDFilterRemove VDCacheClose VDCloseAll VDFilterRemoveAll VDRead VDWrite VDFlush VDGetCount VDIsReadOnly
  VDGetSectorSize VDGetSize VDGetFileSize VDGetPCHSGeometry VDSetPCHSGeometry VDGetLCHSGeometry VDSetLCHSGeometry
  VDQueryRegions VDRegionListFree VDGetVersion VDBackendInfoSingle VDGetImageFlags VDGetOpenFlags VDSetOpenFlags
  VDGetFilename VDGetComment VDSetComment VDGetUuid VDSetUuid VDGetModificationUuid VDSetModificationUuid
  VDGetParentUuid VDSetParentUuid VDDumpImages VDDiscardRanges VDAsyncRead VDAsyncWrite VDAsyncFlush
  VDAsyncDiscardRanges VDRepair VDCreateVfsFileFromDisk VDIfTcpNetInstDefaultCreate VDIfTcpNetInstDefaultDestroy
  VDIoIterCreate VDIoIterRetain VDIoIterRelease VDIoIterGetSegmentCount VDIoIterGetFlags VDIoIterQuerySegment
  VDIoBufMgrCreate VDIoBufMgrDestroy VDIoBufMgrAllocBuf VDIoBufRetain VDIoBufRelease VDIoQueueCreate VDIoQueueDestroy
  VDIoQueueAttach VDIoQueueDetach VDIoQueuePurge VDIoQueueReqAlloc VDIoQueueReqFree VDIoQueueReqCancelById
  VDIoQueueReqCancelByHandle VDIoQueueReqSubmit`
  .trim()
  .split(/\s+/);

/** The codes of the library itself, without the word that they all begin with. */
const STATUSES = `
  INVALID_TYPE INVALID_STATE VALUE_NOT_FOUND NOT_OPENED IMAGE_NOT_FOUND IMAGE_READ_ONLY GEOMETRY_NOT_SET BLOCK_FREE
  UUID_MISMATCH ASYNC_IO_FINISHED ASYNC_IO_IN_PROGRESS INVALID_SIZE UNKNOWN_CFG_VALUES UNKNOWN_INTERFACE DEK_MISSING
  PASSWORD_INCORRECT GEN_INVALID_HEADER VDI_INVALID_HEADER VDI_INVALID_SIGNATURE VDI_UNSUPPORTED_VERSION
  VDI_COMMENT_TOO_LONG VMDK_INVALID_HEADER VMDK_UNSUPPORTED_VERSION VMDK_VALUE_NOT_FOUND VMDK_INVALID_STATE
  VMDK_INVALID_FORMAT VMDK_INVALID_WRITE ISCSI_INVALID_HEADER ISCSI_INVALID_STATE ISCSI_INVALID_TYPE
  ISCSI_SECRET_ENCRYPTED VHD_INVALID_HEADER PARALLELS_INVALID_HEADER DMG_INVALID_HEADER RAW_INVALID_HEADER
  RAW_INVALID_TYPE NOT_ENOUGH_METADATA IOCTX_HALT CACHE_ALREADY_EXISTS CACHE_NOT_FOUND CACHE_NOT_UP_TO_DATE
  DISCARD_ALIGNMENT_NOT_MET DISCARD_NOT_SUPPORTED IMAGE_CORRUPTED IMAGE_REPAIR_NOT_SUPPORTED IMAGE_REPAIR_IMPOSSIBLE
  READ_OUT_OF_RANGE NEW_ZEROED_BLOCK DMG_XML_PARSE_ERROR DMG_NOT_FOUND_INSIDE_XAR RAW_SIZE_MODULO_512
  RAW_SIZE_MODULO_2048 RAW_SIZE_OPTICAL_TOO_SMALL RAW_SIZE_FLOPPY_TOO_BIG SHRINK_NOT_SUPPORTED`
  .trim()
  .split(/\s+/);
/** Codes that the documentation of iterators, buffers and queues names. */
const IO_STATUSES = `
  VERR_PDM_MEDIAEX_IOREQ_CANCELED VERR_PDM_MEDIAEX_IOBUF_OVERFLOW VERR_PDM_MEDIAEX_IOBUF_UNDERRUN
  VERR_PDM_MEDIAEX_IOREQID_CONFLICT VERR_PDM_MEDIAEX_IOREQID_NOT_FOUND VINF_PDM_MEDIAEX_IOREQ_IN_PROGRESS
  VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE VERR_INVALID_STATE VERR_INVALID_HANDLE VERR_NO_MEMORY VERR_OUT_OF_RANGE
  VERR_INVALID_FLAGS VERR_NOT_SUPPORTED`
  .trim()
  .split(/\s+/);
const SUCCESSES = new Set(['ASYNC_IO_FINISHED', 'NEW_ZEROED_BLOCK']);

/** A row of the page that compares: a function, a flag, a callback, a structure. */
interface Comparison {
  readonly name: string;
  readonly here: string;
  readonly differs: string;
  readonly example: string;
  readonly test: string;
}

const NOT_BUILT = 'not built yet';
const UNREACHABLE = /^unreachable: \S.*$/;
const PAGE = readFileSync(join(ROOT, 'docs/vd-api.md'), 'utf8');

/** The cells of all table rows of a `##` section. */
function rowsOf(heading: string): string[][] {
  return tableRows(PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`)) ?? '');
}

const unquoted = (cell: string): string => cell.replace(/^`(.*)`$/, '$1');

function comparison([name = '', here = '', differs = '', example = '', test = '']: string[]): Comparison {
  return { name: unquoted(name), here, differs, example, test };
}

const numbered = rowsOf('Functions');
const functions = numbered.map(([, ...cells]) => comparison(cells));
const others = rowsOf('Flags, enums, callbacks and structures').map(comparison);
const comparisons = [...functions, ...others];
const statusesIn = (heading: string) =>
  rowsOf(heading).map(([status = '', kind = '', test = '']) => ({ status: unquoted(status), kind, test }));
const statuses = statusesIn('Status codes');
const ioStatuses = statusesIn('Status codes of iterators, buffers and queues');

/** All exported types of the sources with their text, to find members in. */
const types = new Map<string, string>();
for (const file of readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })) {
  if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
  const text = readFileSync(join(ROOT, 'src', file), 'utf8');
  for (const declaration of text.split(/^(?=export )/m)) {
    const [, name] = /^export (?:interface|type|class) (\w+)/.exec(declaration) ?? [];
    if (name !== undefined) types.set(name, declaration.split(/^\}/m)[0] ?? '');
  }
}

/** An open disk: some of its members are fields, which its class alone does not show. */
let someDisk: ChainDisk;
beforeAll(async () => {
  someDisk = await Disk.create({ provider: new MemoryProvider(), name: '/some.vdi' }, { size: 4096 });
});
afterAll(() => someDisk.close());

/** True when a word of the second column stands for something: an export, a type, or a member of one. */
function exists(word: string): boolean {
  const [owner = '', member] = word.split('.');
  if (member === undefined) return owner in vdkit || types.has(owner);
  if (owner === 'disk') return member in someDisk;
  if (owner === 'registry') return member in Registry.prototype;
  if (owner === 'Disk') return member in Disk;
  return new RegExp(`^ +(?:(?:readonly|async|get) )*${member}\\??[:(]`, 'm').test(types.get(owner) ?? '');
}

describe('docs/vd-api.md', () => {
  it('has every function of vd.h once, in the order of the header', () => {
    expect(FUNCTIONS).toHaveLength(89);
    expect(functions.map(({ name }) => name)).toEqual(FUNCTIONS);
    expect(numbered.map(([number]) => Number(number))).toEqual(FUNCTIONS.map((_, at) => at + 1));
  });

  it('has every flag, enum, callback and structure once', () => {
    const found = others.map(({ name }) => name);
    expect(found.length).toBeGreaterThan(100);
    expect(found).toEqual([...new Set(found)]);
    expect(found).toEqual(expect.arrayContaining(['VDTYPE', 'THREADSYNC', 'TRAVERSEMETADATA', 'VD_CAP_UUID']));
    expect(found).toContain('VDOpenFlagsToFileOpenFlags (a pure function)');
  });

  it('has rows that are complete, not built yet, or unreachable for a reason', () => {
    const odd = comparisons.filter(({ here, differs, example, test }) => {
      if (differs === '') return true;
      if (here === NOT_BUILT) return test !== NOT_BUILT || example !== '–';
      if (UNREACHABLE.test(here)) return test !== '–' || example !== '–';
      return !/^`[\w.]+`(, `[\w.]+`)*$/.test(here) || !/^`[^`]+`$/.test(example) || test === '';
    });
    expect(odd).toEqual([]);
  });

  it('names only what the package exports, and members that are there', () => {
    const built = comparisons.filter(({ here }) => here !== NOT_BUILT && !UNREACHABLE.test(here));
    expect(built.length).toBeGreaterThan(80);
    const words = built.flatMap(({ here }) => here.split(', ').map(unquoted));
    expect(words.filter((word) => !exists(word))).toEqual([]);
    expect(['nothing', 'Disk.nothing', 'disk.nothing', 'Image.nothing'].filter(exists)).toEqual([]);
  });

  it('has examples that are TypeScript', () => {
    const wrong = comparisons.filter(({ example }) => {
      const { diagnostics = [] } = ts.transpileModule(`async () => { ${unquoted(example)} };`, {
        reportDiagnostics: true,
        compilerOptions: { target: ts.ScriptTarget.ESNext },
      });
      return example !== '–' && diagnostics.length > 0;
    });
    expect(wrong).toEqual([]);
  });

  it('names tests that are there', () => {
    const cells = [...comparisons, ...statuses, ...ioStatuses].map(({ test }) => test);
    const named = cells.filter((test) => test !== NOT_BUILT && test !== '–' && !UNREACHABLE.test(test));
    expect(named.map(testProblem).filter((problem) => problem !== null)).toEqual([]);
  });

  it('has every status code once, with the kind of error that has it', () => {
    expect(statuses.map(({ status }) => status)).toEqual(
      STATUSES.map((status) => `${SUCCESSES.has(status) ? 'VINF' : 'VERR'}_VD_${status}`),
    );
    expect(ioStatuses.map(({ status }) => status)).toEqual(IO_STATUSES);
    const union = /type ErrorKind =([^;]*);/.exec(readFileSync(join(ROOT, 'src/errors.ts'), 'utf8'))?.[1] ?? '';
    const kinds = [...union.matchAll(/'([\w-]+)'/g)].map(([, kind]) => `\`${kind}\``);
    for (const { status, kind, test } of [...statuses, ...ioStatuses]) {
      const without = test === NOT_BUILT || UNREACHABLE.test(test);
      expect(without ? ['–'] : kinds, status).toContain(kind);
    }
  });

  it('knows every status of the library that the sources use', () => {
    const used = new Set<string>();
    for (const file of readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue;
      for (const [status] of readFileSync(join(ROOT, 'src', file), 'utf8').matchAll(/(?<=')VERR_VD_\w+(?=')/g)) {
        used.add(status);
      }
    }
    const thrown = statuses.filter(({ kind }) => kind !== '–').map(({ status }) => status);
    expect(thrown.sort()).toEqual([...used].sort());
  });

  it('knows every status that src/io gives itself', () => {
    const files = readdirSync(join(ROOT, 'src/io')).filter((name) => !name.endsWith('.test.ts'));
    const text = files.map((name) => readFileSync(join(ROOT, 'src/io', name), 'utf8')).join('\n');
    const used = new Set([...text.matchAll(/(?<=')VERR_\w+(?=')/g)].map(([status]) => status));
    const others = ['VERR_NOT_SUPPORTED', 'VINF_PDM_MEDIAEX_IOREQ_IN_PROGRESS'];
    expect([...used].sort()).toEqual(IO_STATUSES.filter((status) => !others.includes(status)).sort());
  });
});

describe('the API of vd.h', () => {
  const at = (name: string, provider = new MemoryProvider()) => ({ provider, name });

  it('makes a disk and opens it for writing', async () => {
    await using disk = await Disk.create(at('/disk.vdi'), { size: 4096 });
    expect(disk).toMatchObject({ size: 4096, can: { write: true } });
    await disk.write(0, Uint8Array.of(1));
  });

  it('makes a disc when told to', async () => {
    const source = at('/disc.iso');
    await createImage(source, { format: 'raw', size: 2 ** 20, type: 'optical' });
    expect(await inspect(source, { type: 'optical' })).toMatchObject({ type: 'optical', sectorSize: 2048 });
  });

  it('reports what the getters of vd.h report', async () => {
    const base = at('/base.vdi');
    const child = at('/child.vdi', base.provider);
    const geometry = {
      physical: { cylinders: 7, heads: 16, sectors: 63 },
      logical: { cylinders: 3, heads: 255, sectors: 63 },
    };
    await createImage(base, { size: 2 ** 22, comment: 'the base', geometry });
    await createImage(child, { parent: base });
    await using disk = await Disk.open(child, { mode: 'write', allow: ['/'] });
    expect(disk.size).toBe(2 ** 22);
    expect(disk.can).toMatchObject({ write: true, discard: true });
    expect(disk.images.map(({ name, format }) => [name, format])).toEqual([
      ['/base.vdi', 'vdi'],
      ['/child.vdi', 'vdi'],
    ]);
    const [first, second] = disk.images.map(({ info }) => info);
    expect(first).toMatchObject({
      sectorSize: 512,
      virtualSize: 2 ** 22,
      version: '1.1',
      comment: 'the base',
      geometry,
    });
    expect([first?.variant, second?.variant]).toEqual([['dynamic'], ['diff']]);
    const uuid = /^[0-9a-f-]{36}$/;
    expect([first?.uuid, first?.modificationUuid]).toEqual([expect.stringMatching(uuid), expect.stringMatching(uuid)]);
    expect(second?.parentUuid).toBe(first?.uuid);
    expect(first?.regions).toEqual({
      unit: 'bytes',
      regions: [expect.objectContaining({ offset: 0, length: 2 ** 22, blockSize: 512, dataForm: 'raw' })],
    });
    expect(defaultRegistry().find(disk.images[0]?.format ?? '').name).toBe('vdi');
    const { fileSize } = await inspect(base, { lock: false });
    expect(fileSize).toBe((await base.provider.lookUp(base.name))?.size);
  });

  it('says what each format can', () => {
    const { formats } = defaultRegistry();
    expect(formats).toEqual(vdkit.FORMATS);
    const vdi = defaultRegistry().find('vdi');
    expect(vdi.capabilities).toMatchObject({ uuid: true, createFixed: true, createDynamic: true, createSplit: false });
    expect(vdi.capabilities).toMatchObject({ diff: true, discard: true, preferred: true });
    expect(vdi.extensions).toEqual([{ extension: 'vdi', type: 'hdd' }]);
    expect(vdi.configKeys[0]).toMatchObject({
      valueType: 'integer',
      mandatory: false,
      expert: false,
      createOnly: true,
    });
  });

  it('tells of reads that met nothing', async () => {
    const disk = someDisk;
    await disk.write(512, Uint8Array.of(0, 1));
    const unallocated = async (source: ChainDisk) => (await source.read(0, new Uint8Array(1024))).unallocated;
    expect(await unallocated(disk)).toBe(false);
    await using empty = await Disk.create(at('/empty.vdi'), { size: 4096 });
    expect(await unallocated(empty)).toBe(true);
  });

  it('leaves flushes of the storage out when told to', async () => {
    for (const ignoreFlush of [false, true]) {
      const source = at('/disk.vdi');
      await createImage(source, { size: 2 ** 20 });
      const provider = new RecordingProvider(source.provider);
      const disk = await Disk.open({ provider, name: source.name }, { mode: 'write', ignoreFlush });
      // The modification identity is durable before the first change in any case.
      await disk.write(0, Uint8Array.of(1));
      const { flushes, operations } = provider.log;
      const [flushed, written] = [flushes.length, operations.length];
      await disk.close();
      expect(operations.length).toBeGreaterThan(written);
      expect(flushes.length > flushed).toBe(!ignoreFlush);
    }
  });

  /** Makes an image, overwrites four bytes of it, and opens it. */
  async function patched(name: string, fileOffset: number, value: number, variant: string[] = []): Promise<ChainDisk> {
    const source = at(name);
    const disk = await Disk.create(source, { size: 65_536, variant });
    await disk.write(0, new Uint8Array(65_536).fill(1));
    await disk.close();
    const storage = await source.provider.open(source.name, 'write');
    await storage.write(fileOffset, new Uint8Array(Uint32Array.of(value).buffer));
    await storage.close();
    return Disk.open(source, { format: name.slice(name.lastIndexOf('.') + 1) });
  }
  const vdi = (field: keyof typeof HEADER.fields, value: number) =>
    patched('/disk.vdi', HEADER.fields[field].offset, value);
  const vmdk = (field: keyof typeof SPARSE_HEADER.fields, value: number) =>
    patched('/disk.vmdk', SPARSE_HEADER.fields[field].offset, value);

  const make = (options: vdkit.CreateImageOptions, name = '/disk.vdi') => createImage(at(name), options);
  it.each<[string, () => Promise<unknown>]>([
    ['VERR_VD_INVALID_SIZE', () => make({ size: 1000 })],
    ['VERR_VD_UNKNOWN_CFG_VALUES', () => make({ size: 4096, config: { Colour: 'red' } })],
    ['VERR_VD_VDI_COMMENT_TOO_LONG', () => make({ size: 4096, comment: 'x'.repeat(256) })],
    ['VERR_VD_VDI_INVALID_SIGNATURE', () => vdi('signature', 0)],
    ['VERR_VD_VDI_INVALID_HEADER', () => vdi('blockSize', 0)],
    ['VERR_VD_VDI_UNSUPPORTED_VERSION', () => vdi('version', 0x0002_0001)],
    ['VERR_VD_VHD_INVALID_HEADER', () => patched('/disk.vhd', 512 + VHD_HEADER.fields.blockSize.offset, 3)],
    ['VERR_VD_VMDK_INVALID_HEADER', () => vmdk('grainSize', 3)],
    ['VERR_VD_VMDK_UNSUPPORTED_VERSION', () => vmdk('version', 9)],
    [
      'VERR_VD_VMDK_VALUE_NOT_FOUND',
      async () => {
        const source = at('/disk.vmdk');
        const storage = await source.provider.create(source.name);
        await storage.write(0, new TextEncoder().encode('# Disk DescriptorFile\nversion=1\n'));
        await storage.close();
        await Disk.open(source);
      },
    ],
    [
      'VERR_VD_VMDK_INVALID_FORMAT',
      async () => {
        const marker = 65_536;
        await using disk = await patched('/disk.vmdk', marker, 7, ['stream']);
        await disk.read(0, new Uint8Array(512));
      },
    ],
    [
      'VERR_VD_VMDK_INVALID_WRITE',
      async () => {
        await using disk = await Disk.create(at('/disk.vmdk'), { size: 2 ** 20, variant: ['stream'] });
        await disk.write(65_536, new Uint8Array(65_536).fill(1));
        await disk.write(0, new Uint8Array(65_536).fill(1));
      },
    ],
    [
      'VERR_VD_INVALID_TYPE',
      async () => {
        const base = at('/base.vdi');
        await createImage(base, { size: 4096 });
        await createImage(at('/child.vdi', base.provider), { parent: base, variant: ['fixed'] });
      },
    ],
    [
      'VERR_VD_NOT_OPENED',
      async () => {
        const disk = await Disk.create(at('/disk.vdi'), { size: 4096 });
        await disk.close();
        await disk.flush();
      },
    ],
    [
      'VERR_VD_IMAGE_READ_ONLY',
      async () => {
        const source = at('/disk.vdi');
        await createImage(source, { size: 4096 });
        await using disk = await Disk.open(source);
        await disk.write(0, new Uint8Array(512));
      },
    ],
    [
      'VERR_VD_IMAGE_CORRUPTED',
      async () => {
        const base = at('/base.vdi');
        const child = at('/child.vdi', base.provider);
        await createImage(base, { size: 4096 });
        await createImage(child, { parent: base });
        await Disk.open(child, { parent: child });
      },
    ],
  ])('throws %s', async (status, run) => {
    const kind = unquoted(statuses.find((row) => row.status === status)?.kind ?? '');
    await expect(run()).rejects.toMatchObject({ status, kind });
  });
});
