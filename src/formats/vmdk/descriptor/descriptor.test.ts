import { describe, expect, it } from 'vitest';
import { expectKind } from '../../../../test/conformance/expect-kind.ts';
import { ImageError } from '../../../errors.ts';
import { MemoryStorage } from '../../../storage/memory.ts';
import { looksLikeDescriptor } from '../probe.ts';
import { codePage } from './code-page.ts';
import { formatExtent, parseExtent } from './extents.ts';
import {
  commentOf,
  contentId,
  geometryOf,
  parentContentId,
  setComment,
  setGeometry,
  setUuids,
  uuidsOf,
} from './facts.ts';
import { type DescriptorPlace, DescriptorStore } from './store.ts';
import { DescriptorText } from './text.ts';

const PATH = '/disk.vmdk';
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);
const parse = (text: string): DescriptorText => DescriptorText.parse(ascii(text), PATH);
const textOf = (descriptor: DescriptorText): string =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(descriptor.bytes());

const QEMU = `# Disk DescriptorFile
version=1
CID=c28fd6
parentCID=ffffffff
createType="monolithicSparse"

# Extent description
RW 32768 SPARSE "disk.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "32"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
`;

describe('the text of a descriptor', () => {
  it('gives values, extents and the database', () => {
    const text = parse(QEMU);
    expect(text.value('createtype')).toBe('monolithicSparse');
    expect(text.extents).toEqual([{ number: 8, text: 'RW 32768 SPARSE "disk.vmdk"' }]);
    expect(text.database.at(-1)).toEqual(['ddb.adapterType', 'ide']);
    expect(contentId(text)).toBe('00c28fd6');
    expect(parentContentId(text)).toBeNull();
    expect(geometryOf(text, 'physical')).toEqual({ cylinders: 32, heads: 16, sectors: 63 });
    expect(geometryOf(text, 'logical')).toBeNull();
  });

  it('ends at the first NUL, and keeps everything else as it was', () => {
    expect(textOf(parse(`${QEMU}\0\0\0junk`))).toBe(QEMU);
    const odd = '\uFEFF# disk descriptor file\r\n\r\nversion = 1\r\nfoo bar\r\nx.y=1\r\nRW 1 ZERO\r\n';
    expect(textOf(parse(odd))).toBe(odd);
  });

  it('changes one line and no other', () => {
    const text = parse(QEMU);
    text.set('CID', '0badcafe', PATH);
    text.set('ddb.adapterType', 'lsilogic', PATH);
    expect(textOf(text)).toBe(QEMU.replace('c28fd6', '0badcafe').replace('"ide"', '"lsilogic"'));
  });

  it('adds a key at the end of its section and removes it again', () => {
    const text = parse(QEMU);
    text.set('parentFileNameHint', 'base.vmdk', PATH);
    setUuids(text, { uuid: '9597f2fc-336c-45c8-a028-fee4cd5172f5', parentUuid: null }, PATH);
    const changed = textOf(text);
    expect(changed).toContain('createType="monolithicSparse"\nparentFileNameHint="base.vmdk"\n');
    expect(changed).toMatch(/adapterType = "ide"\nddb\.uuid\.image = "9597f2fc-[^\n]*\nddb\.uuid\.parent = "0{8}-/);
    expect(uuidsOf(text)).toMatchObject({ uuid: '9597f2fc-336c-45c8-a028-fee4cd5172f5', parentUuid: null });
    for (const key of ['parentFileNameHint', 'ddb.uuid.image', 'ddb.uuid.parent']) text.set(key, null, PATH);
    expect(textOf(text)).toBe(QEMU);
  });

  it('replaces extents where they stand', () => {
    const text = parse(QEMU.replace('RW 32768', 'RW 1 ZERO\nRW 32767'));
    text.setExtents(['RW 64 FLAT "a b.vmdk" 0'], PATH);
    expect(textOf(text)).toContain('# Extent description\nRW 64 FLAT "a b.vmdk" 0\n\n# The Disk Data Base');
    const none = parse('# Disk DescriptorFile\nversion=1\n\nddb.adapterType = "ide"\n');
    none.setExtents(['RW 1 ZERO'], PATH);
    // QEMU counts an extent once more for each empty line right before it.
    expect(textOf(none)).toContain('version=1\nRW 1 ZERO\n');
  });

  it('stores geometries and comments', () => {
    const text = parse(QEMU);
    setGeometry(text, 'logical', { cylinders: 4, heads: 255, sectors: 63 }, PATH);
    expect(geometryOf(text, 'logical')).toEqual({ cylinders: 4, heads: 255, sectors: 63 });
    setGeometry(text, 'logical', null, PATH);
    setComment(text, 'one\ntwo\\three\r', PATH);
    expect(textOf(text)).toContain('ddb.comment = "one\\ntwo\\\\three\\r"');
    expect(commentOf(text)).toBe('one\ntwo\\three\r');
    setComment(text, null, PATH);
    expect(textOf(text)).toBe(QEMU);
  });

  it('reads quotes inside of a quoted value, as VirtualBox writes them', () => {
    expect(commentOf(parse('ddb.comment="a "quoted" word\\nand "another""'))).toBe('a "quoted" word\nand "another"');
    expect(parse('CID="12').value('CID')).toBe(null);
  });

  it.each(['a "quoted" name', 'two\nlines', 'a\0b'])('refuses a value that it cannot hold: %j', async (value) => {
    const text = parse(QEMU);
    await expectKind(async () => text.set('parentFileNameHint', value, PATH), 'invalid-argument');
    expect(textOf(text)).toBe(QEMU);
  });

  it('refuses texts without an end', async () => {
    await expectKind(async () => parse('#\n'.repeat(65_537)), 'limit');
    await expectKind(async () => parse(`x="${'y'.repeat(70_000)}"`), 'limit');
    expect(parse('#\n'.repeat(65_536)).extents).toEqual([]);
  });
});

describe('code pages', () => {
  it.each([
    ['GBK', '虚拟机', 'd0e9c4e2bbfa'],
    ['Big5', '虛擬機', null],
    ['Shift_JIS', '仮想ﾏｼﾝ', null],
    ['windows-1252', 'Größe €', null],
    ['UTF-8', '虚拟机 €', null],
    ['windows-936', '虚拟机', 'd0e9c4e2bbfa'],
  ])('convert names in %s both ways', (name, text, hex) => {
    const page = codePage(name);
    const stored = page.encode(text) ?? '';
    expect(page.known).toBe(true);
    expect(page.decode(stored)).toBe(text);
    if (hex !== null) expect(Buffer.from(stored, 'latin1').toString('hex')).toBe(hex);
  });

  it('refuse characters that they do not have', () => {
    expect(codePage('windows-1252').encode('虚')).toBeNull();
    expect(codePage('x-unheard-of')).toMatchObject({ known: false });
    expect(codePage('x-unheard-of').encode('plain')).toBe('plain');
    expect(codePage('x-unheard-of').encode('ü')).toBeNull();
  });

  it('apply to values and extents of a descriptor', () => {
    const bytes = Buffer.concat([
      ascii('# Disk DescriptorFile\nversion=1\nencoding="GBK"\nRW 8 FLAT "'),
      Buffer.from('d0e9c4e2bbfa', 'hex'),
      ascii('-f001.vmdk" 0\n'),
    ]);
    const text = DescriptorText.parse(bytes, PATH);
    expect(text.extents[0]?.text).toBe('RW 8 FLAT "虚拟机-f001.vmdk" 0');
    text.set('parentFileNameHint', '虚.vmdk', PATH);
    expect(Buffer.from(text.bytes()).includes(Buffer.from('d0e92e766d646b', 'hex'))).toBe(true);
    expect(text.value('parentFileNameHint')).toBe('虚.vmdk');
  });
});

describe('the line of an extent', () => {
  const at = (text: string) => parseExtent({ number: 3, text }, PATH);

  it.each([
    [
      'RW 4192256 SPARSE "x-s001.vmdk"',
      { access: 'RW', sectors: 4192256, type: 'SPARSE', file: 'x-s001.vmdk', offset: 0 },
    ],
    [
      'rdonly\t8  flat\t"Bob\'s [VM] (1).vmdk"',
      { access: 'RDONLY', type: 'FLAT', file: "Bob's [VM] (1).vmdk", offset: 0 },
    ],
    ['RW 63 FLAT "d.vmdk" 126 12ab-cd dev0', { offset: 126, rest: ['12ab-cd', 'dev0'] }],
    ['RW 100 ZERO', { type: 'ZERO', file: null }],
    ['NOACCESS 9 VMFS "x-flat.vmdk"', { access: 'NOACCESS', type: 'VMFS' }],
  ])('is read: %s', (text, expected) => {
    expect(at(text)).toMatchObject(expected);
  });

  it.each([
    ['RW 0 ZERO', 'corrupt'],
    ['RW -5 ZERO', 'corrupt'],
    ['RW 99999999999999999 ZERO', 'corrupt'],
    ['RW 0x10 ZERO', 'corrupt'],
    ['RW 8 FLAT', 'corrupt'],
    ['RW 8 FLAT "open', 'corrupt'],
    ['RW 8 FLAT "a" b', 'corrupt'],
    ['RW 8 toString "a"', 'unsupported'],
    ['RW 8 OTHER "a"', 'unsupported'],
  ] as const)('is refused: %s', async (text, kind) => {
    await expectKind(async () => at(text), kind);
  });

  it.each([
    'RW 8 SPARSE "a.vmdk"',
    'RW 8 FLAT "a.vmdk" 0',
    'RDONLY 8 VMFS "a.vmdk"',
    'RW 8 ZERO',
    'RW 8 FLAT "a" 5 u d',
  ])('is written as it was read: %s', (text) => {
    expect(formatExtent(at(text))).toBe(text);
  });
});

describe('the start of a descriptor', () => {
  it.each([
    [QEMU, true],
    ['#disk descriptor file\r\nversion=1', true],
    ['\uFEFF\n# Disk Descriptor File\n', true],
    ['# made by hand\n\nversion = 2\n', true],
    ['# made by hand\nencoding="GBK"\n', false],
    ['#!/bin/sh\nversion=1x\n', false],
    ['', false],
    ['\0\0\0', false],
  ])('is recognised: %j', (text, expected) => {
    expect(looksLikeDescriptor(ascii(text))).toBe(expected);
  });
});

describe('a copy of the descriptor that a cut left', () => {
  /** A descriptor whose text was torn while it was replaced; its copy is whole. */
  async function torn(room: number | null): Promise<{ storage: MemoryStorage; place: DescriptorPlace }> {
    const storage = new MemoryStorage();
    const place = { storage, fileOffset: 0, room };
    await storage.write(0, ascii(QEMU));
    if (room !== null) await storage.resize(room);
    const store = await DescriptorStore.open(place);
    const text = store.draft();
    text.set('CID', '11112222', PATH);
    text.set('ddb.comment', 'x'.repeat(600), PATH);
    // The first write is the copy.
    const first = storage.write.bind(storage);
    let writes = 0;
    storage.write = async (offset, source) => {
      if (++writes === 1) return first(offset, source);
      throw new ImageError('io', 'cut');
    };
    await expectKind(() => store.replace(text), 'io');
    storage.write = first;
    await storage.write(100, ascii('torn'));
    return { storage, place };
  }

  it.each([null, 20 * 512])('is made the text before the next change, with room for %s bytes', async (room) => {
    const { place } = await torn(room);
    const store = await DescriptorStore.open(place);
    expect(store.text.value('CID')).toBe('11112222');
    const text = store.draft();
    text.set('CID', '33334444', PATH);
    await store.overwrite(text);
    const again = await DescriptorStore.open(place);
    expect(again.text.value('CID')).toBe('33334444');
    expect(again.text.bytes()).toEqual(text.bytes());
  });
});

it('is not written again after a write of it failed', async () => {
  const storage = new MemoryStorage();
  await storage.write(0, ascii(QEMU));
  const store = await DescriptorStore.open({ storage, fileOffset: 0, room: null });
  const text = store.draft();
  text.set('CID', '11112222', PATH);
  const { flush } = storage;
  storage.flush = () => Promise.reject(new ImageError('io', 'failed'));
  await expectKind(() => store.overwrite(text), 'io');
  storage.flush = flush;
  await expectKind(() => store.replace(text), 'io');
  await expectKind(async () => store.seal(text), 'io');
});
