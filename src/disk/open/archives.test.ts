/** Images inside archives: which member is the disk, and every way to store it. In memory. */
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { base256, longName, ovfOf, paxPart, type TarPart, tarOf } from '../../../test/archives/tar-maker.ts';
import { type ZipAround, type ZipPart, zipOf } from '../../../test/archives/zip-maker.ts';
import { checkImage } from '../../operations/check.ts';
import { convert } from '../../operations/convert.ts';
import { inspect } from '../../operations/inspect.ts';
import { openDisk } from '../../operations/open.ts';
import { MemoryProvider } from '../../storage/memory.ts';

const DATA = Uint8Array.from({ length: 6 * 1024 }, (_, at) => (at < 3000 ? (at * at) >> 5 : 0));
const OTHER = new Uint8Array(1024).fill(7);
const disk = (name: string, content: Uint8Array = DATA): TarPart & ZipPart => ({ name, content });

async function holding(files: Readonly<Record<string, Uint8Array>>): Promise<MemoryProvider> {
  const provider = new MemoryProvider();
  for (const [name, bytes] of Object.entries(files)) {
    const file = await provider.create(name);
    await file.write(0, bytes);
    await file.close();
  }
  return provider;
}

/** The disk in the bytes; `member`: the one that is named. */
async function contentOf(bytes: Uint8Array, member?: string, name = 'a.bin'): Promise<Uint8Array> {
  const provider = await holding({ [name]: bytes });
  await using opened = await openDisk({ provider, name, member });
  const content = new Uint8Array(opened.size);
  await opened.read(0, content);
  return content;
}

async function failure(bytes: Uint8Array, member?: string): Promise<unknown> {
  return contentOf(bytes, member).then(
    () => 'opened',
    (error: unknown) => error,
  );
}

const same = (found: Uint8Array, expected = DATA): void => expect(Buffer.from(found).equals(expected)).toBe(true);

describe('tar', () => {
  const long = `${'folder/'.repeat(30)}disk.img`;
  it.each<[string, readonly TarPart[]]>([
    ['ustar', [disk('disk.img')]],
    ['the first tars', [{ ...disk('disk.img'), magic: '', type: '\0' }]],
    ['GNU', [{ ...disk('disk.img'), magic: 'ustar  \0' }]],
    ['a prefix', [{ ...disk('disk.img'), prefix: 'some/folder' }]],
    ['a long name of GNU', [longName(long), disk(long.slice(0, 100))]],
    ['a name and a size in pax records', [paxPart({ path: long, size: `${DATA.length}` }), { ...disk('x'), size: 0 }]],
    ['records of all members', [paxPart({ comment: 'ü' }, 'g'), disk('disk.img')]],
    ['a size in base 256', [{ ...disk('disk.img'), size: base256(DATA.length) }]],
    [
      'other members',
      [disk('readme.txt', OTHER), { name: 'd/', type: '5' }, disk('d/disk.raw'), disk('d/disk.raw.sha256')],
    ],
    ['no name of a disk', [disk('backup')]],
    ['a resource fork beside it', [disk('._disk.img', OTHER), disk('disk.img')]],
    ['links of the same extension', [disk('disk.img'), { name: 'b.img', type: '2' }, { name: 'c.img', type: '1' }]],
  ])('reads a disk with %s', async (_, parts) => {
    same(await contentOf(tarOf(parts)));
  });

  it('copies nothing: what is read is a range of the archive', async () => {
    const provider = await holding({ 'a.tar': tarOf([disk('disk.img')]) });
    const report = await inspect({ provider, name: 'a.tar' });
    expect(report.wrappings).toEqual([{ format: 'tar', member: 'disk.img' }]);
    expect(report.warnings.join(' ')).not.toContain('temporary');
  });

  it('lists several disks, and reads the one that is named', async () => {
    const bytes = tarOf([disk('./a.img', OTHER), disk('b.vdi'), disk('notes.txt')]);
    expect(await failure(bytes)).toMatchObject({
      kind: 'invalid-argument',
      context: { found: './a.img, b.vdi' },
      hint: expect.stringContaining('--member'),
    });
    same(await contentOf(bytes, 'a.img'), OTHER);
    same(await contentOf(bytes, './a.img'), OTHER);
    expect(await failure(bytes, 'c.img')).toMatchObject({
      kind: 'not-found',
      hint: expect.stringContaining('b.vdi'),
    });
  });

  it('reads archives and compressed files inside each other', async () => {
    const inner = tarOf([disk('a.img', OTHER), disk('b.img')]);
    same(await contentOf(tarOf([disk('one.gz', gzipSync(DATA))])));
    same(await contentOf(zipOf([disk('in.tar', inner)]), 'in.tar/b.img'));
    same(await contentOf(gzipSync(inner), 'b.img', 'all.tgz'));
    expect(await failure(zipOf([disk('in.tar', inner)]))).toMatchObject({ kind: 'invalid-argument' });
    expect(await failure(zipOf([disk('in.tar', inner)]), 'in.tar/c.img')).toMatchObject({ kind: 'not-found' });
    expect(await failure(zipOf([disk('x.img')]), 'x.img/y')).toMatchObject({ kind: 'not-found' });
  });

  it.each<[string, Uint8Array, string]>([
    ['a wrong checksum', tarOf([disk('a.img'), { ...disk('b.txt'), checksum: '0000001\0' }]), 'corrupt'],
    ['the end within a member', tarOf([disk('a.img')]).subarray(0, 4000), 'corrupt'],
    ['the end within a header', tarOf([disk('a.img'), disk('b.txt')]).subarray(0, 512 + DATA.length + 200), 'corrupt'],
    ['a negative size', tarOf([{ ...disk('a.img'), size: new Uint8Array(12).fill(0xff) }]), 'corrupt'],
    ['a size beyond everything', tarOf([{ ...disk('a.img'), size: new Uint8Array(12).fill(0xbf) }]), 'corrupt'],
    ['a size that is no number', tarOf([{ ...disk('a.img'), size: Buffer.from('abc') }]), 'corrupt'],
    [
      'records that are none',
      tarOf([{ name: 'x', type: 'x', content: Buffer.from('99 a=b\n') }, disk('a.img')]),
      'corrupt',
    ],
    ['two members of one name', tarOf([disk('a.img'), disk('./a.img', OTHER)]), 'corrupt'],
    ['a link alone', tarOf([{ name: 'a.img', type: '2' }]), 'unsupported'],
    ['a device alone', tarOf([{ name: 'a.img', type: '3' }]), 'unsupported'],
    ['a name above', tarOf([disk('../a.img')]), 'unsupported'],
    ['an absolute name', tarOf([disk('/dev/a.img')]), 'unsupported'],
    ['a sparse member of GNU', tarOf([{ ...disk('a.img'), type: 'S' }]), 'unsupported'],
    ['a sparse member of pax', tarOf([paxPart({ 'GNU.sparse.major': '1' }), disk('a.img')]), 'unsupported'],
    ['several files, none a disk', tarOf([disk('a.txt'), disk('b.txt')]), 'unsupported'],
    ['pieces', tarOf([disk('a.vmdk.000000000')]), 'unsupported'],
    ['an empty member', tarOf([disk('a.img', new Uint8Array(0))]), 'invalid-format'],
  ])('refuses %s', async (_, bytes, kind) => {
    expect(await failure(bytes)).toMatchObject({ name: 'ImageError', kind });
  });

  it('refuses a link and a sparse member that are named', async () => {
    const bytes = tarOf([
      disk('a.img'),
      { name: 'b.img', type: '2' },
      { ...disk('c.img'), type: 'S' },
      disk('../d.img'),
    ]);
    for (const member of ['b.img', 'c.img', '../d.img']) {
      expect(await failure(bytes, member)).toMatchObject({ kind: 'unsupported' });
    }
  });

  it('warns of a missing end, and of bytes behind it', async () => {
    const warnings = async (bytes: Uint8Array): Promise<string> => {
      const provider = await holding({ 'a.tar': bytes });
      return (await inspect({ provider, name: 'a.tar' })).warnings.join(' ');
    };
    expect(await warnings(tarOf([disk('a.img')], 0))).toContain('is missing');
    expect(await warnings(Buffer.concat([tarOf([disk('a.img')]), tarOf([disk('b.img')])]))).toContain('other bytes');
    expect(await warnings(tarOf([disk('a.img')], 10_240))).not.toMatch(/missing|other bytes/);
  });
});

describe('OVA', () => {
  it.each<[string, readonly TarPart[]]>([
    ['first', [disk('x.ovf', ovfOf([{ href: 'disk' }])), disk('disk'), disk('cd.iso', OTHER)]],
    ['last, in a directory', [disk('cd.iso', OTHER), disk('vm/disk'), disk('vm/x.OVF', ovfOf([{ href: 'disk' }]))]],
    ['with an escaped name', [disk('x.ovf', ovfOf([{ href: 'my%20disk.img' }])), disk('my disk.img')]],
    [
      'with a compressed disk',
      [
        disk('x.ovf', ovfOf([{ href: 'd.vmdk', attributes: 'ovf:compression="gzip"' }])),
        disk('d.vmdk', gzipSync(DATA)),
      ],
    ],
    [
      'with a disk that two machines share',
      [disk('x.ovf', ovfOf([{ href: 'd.img' }, { href: 'd.img' }])), disk('d.img')],
    ],
  ])('reads the disk of a description %s', async (_, parts) => {
    same(await contentOf(tarOf(parts)));
  });

  it('lists the disks of the description', async () => {
    const bytes = tarOf([
      disk('x.ovf', ovfOf([{ href: 'a' }, { href: 'b' }])),
      disk('a', OTHER),
      disk('b'),
      disk('c.img'),
    ]);
    expect(await failure(bytes)).toMatchObject({ kind: 'invalid-argument', context: { found: 'a, b' } });
    same(await contentOf(bytes, 'b'));
    same(await contentOf(bytes, 'c.img'));
  });

  const gzip = 'ovf:compression="gzip"';
  it.each<[string, readonly TarPart[], string]>([
    ['a disk that is not there', [disk('x.ovf', ovfOf([{ href: 'b.img' }])), disk('a.img')], 'corrupt'],
    ['a disk elsewhere', [disk('x.ovf', ovfOf([{ href: 'https://host/a.img' }])), disk('a.img')], 'corrupt'],
    ['a disk above', [disk('x.ovf', ovfOf([{ href: '../a.img' }])), disk('../a.img')], 'unsupported'],
    ['no disks', [disk('x.ovf', ovfOf([])), disk('a.img')], 'unsupported'],
    ['a link', [disk('x.ovf', ovfOf([{ href: 'a.img' }])), { name: 'a.img', type: '2' }], 'corrupt'],
    [
      'pieces',
      [disk('x.ovf', ovfOf([{ href: 'a', attributes: 'ovf:chunkSize="9"' }])), disk('a.000000000')],
      'unsupported',
    ],
    [
      'another compression',
      [disk('x.ovf', ovfOf([{ href: 'a', attributes: 'ovf:compression="x"' }])), disk('a')],
      'unsupported',
    ],
    [
      'changes to another disk',
      [disk('x.ovf', ovfOf([{ href: 'a', disk: 'ovf:parentRef="d"' }])), disk('a')],
      'unsupported',
    ],
    [
      'a broken gzip',
      [disk('x.ovf', ovfOf([{ href: 'a', attributes: gzip }])), disk('a', gzipSync(DATA).subarray(0, 99))],
      'corrupt',
    ],
    ['an OVF that is no XML', [disk('x.ovf', Buffer.from('<a>')), disk('a.img')], 'corrupt'],
    ['a document type', [disk('x.ovf', Buffer.from('<!DOCTYPE a><Envelope/>')), disk('a.img')], 'unsupported'],
    [
      'elements too deep',
      [disk('x.ovf', Buffer.from(`<Envelope>${'<a>'.repeat(99)}${'</a>'.repeat(99)}</Envelope>`)), disk('a.img')],
      'limit',
    ],
    [
      'a reference to no file',
      [disk('x.ovf', Buffer.from('<Envelope><Disk fileRef="f"/></Envelope>')), disk('a.img')],
      'corrupt',
    ],
  ])('refuses %s', async (_, parts, kind) => {
    expect(await failure(tarOf(parts))).toMatchObject({ name: 'ImageError', kind });
  });
});

describe('zip', () => {
  const front = new Uint8Array(700).fill(0x90);
  const commentWithEnd = Buffer.from('PK\x05\x06 and more text that is long enough for a record', 'latin1');
  it.each<[string, ZipPart, ZipAround]>([
    ['stored', disk('disk.img'), {}],
    ['compressed', { ...disk('disk.img'), method: 8 }, {}],
    ['written to a pipe', { ...disk('disk.img'), method: 8, streamed: true }, {}],
    ['written to a pipe, stored', { ...disk('disk.img'), streamed: true }, {}],
    ['with 64-bit sizes', { ...disk('disk.img'), wide: true }, { wide: true }],
    [
      'with 64-bit sizes, written to a pipe',
      { ...disk('disk.img'), wide: true, streamed: true, method: 8 },
      { wide: true },
    ],
    ['in a directory with backslashes', disk('dir\\disk.img'), {}],
    ['with a name in Latin-1', disk(Buffer.from('b\xe4r.img', 'latin1') as unknown as string), {}],
    ['with bytes in front', disk('disk.img'), { before: front }],
    ['with bytes in front that the offsets count', disk('disk.img'), { before: front, counted: front.length }],
    ['with a comment', disk('disk.img'), { comment: Buffer.from('made by hand') }],
    ['with an end record in its comment', disk('disk.img'), { comment: commentWithEnd }],
    ['with bytes behind', disk('disk.img'), { behind: Buffer.from('signature') }],
    ['with bytes in front and 64-bit sizes', { ...disk('disk.img'), wide: true }, { before: front, wide: true }],
  ])('reads a disk %s', async (title, part, around) => {
    // What begins with something else has its end record as its sign, whose numbers must fit.
    if (title.endsWith('64-bit sizes') && around.before !== undefined) {
      same((await insideZip(zipOf([part], around))).content);
    } else same(await contentOf(zipOf([disk('readme.txt', OTHER), part, { name: 'd/' }], around)));
  });

  /** Through the reader of zip archives alone, whatever the probe says. */
  async function insideZip(bytes: Uint8Array): Promise<{ readonly content: Uint8Array }> {
    const { unwrapZip } = await import('../../formats/recognised/inside/zip.ts');
    const provider = await holding({ 'a.zip': bytes });
    const file = await provider.open('a.zip', 'read');
    const { content } = await unwrapZip(file, { name: 'a.zip', isDisk: () => true, verify: true });
    if (!('offset' in content)) throw new Error('It is stored.');
    return { content: bytes.subarray(content.offset, content.offset + content.length) };
  }

  it('warns of bytes in front and behind', async () => {
    const provider = await holding({ 'a.zip': zipOf([disk('a.img')], { before: front, behind: new Uint8Array(5) }) });
    const { unwrapZip } = await import('../../formats/recognised/inside/zip.ts');
    const file = await provider.open('a.zip', 'read');
    const { warnings } = await unwrapZip(file, { name: 'a.zip', isDisk: () => true });
    expect(warnings.join(' ')).toMatch(/700 bytes in front.*5 bytes behind/);
  });

  it('unpacks nothing that is stored, and tells of what it unpacks', async () => {
    const provider = await holding({
      'stored.zip': zipOf([disk('disk.img')]),
      'packed.zip': zipOf([{ ...disk('disk.img'), method: 8 }]),
    });
    expect((await inspect({ provider, name: 'stored.zip' })).warnings.join(' ')).not.toContain('temporary');
    expect((await inspect({ provider, name: 'packed.zip' })).warnings.join(' ')).toContain('temporary');
  });

  const damaged = Uint8Array.from(DATA);
  damaged[100] = 99;
  const two = zipOf([disk('a.img'), disk('b.img', OTHER)]);
  const atEnd = (bytes: Uint8Array, from: number): Uint8Array => bytes.subarray(0, bytes.length - from);
  it.each<[string, Uint8Array, string]>([
    ['several disks', two, 'invalid-argument'],
    ['no disks', zipOf([disk('a.txt'), disk('b.txt')]), 'unsupported'],
    ['nothing', zipOf([]), 'unsupported'],
    ['two members of one name', zipOf([disk('a.img'), disk('a.img', OTHER)]), 'corrupt'],
    ['no end record', atEnd(two, 30), 'corrupt'],
    ['a wrong checksum of a stored disk', zipOf([{ ...disk('a.img'), stored: damaged }]), 'corrupt'],
    [
      'a wrong checksum of a compressed disk',
      zipOf([{ ...disk('a.img'), method: 8, entry: { crc: 1 }, local: { crc: 1 } }]),
      'corrupt',
    ],
    ['broken deflate', zipOf([{ ...disk('a.img'), method: 8, stored: new Uint8Array(50).fill(0xff) }]), 'corrupt'],
    [
      'bytes behind the deflate data',
      zipOf([{ ...disk('a.img'), method: 8, stored: Buffer.concat([deflated(DATA), Buffer.from('x')]) }]),
      'corrupt',
    ],
    ['a size that is less', zipOf([{ ...disk('a.img'), method: 8, streamed: true, entry: { size: 512 } }]), 'corrupt'],
    ['a size that is more', zipOf([{ ...disk('a.img'), method: 8, streamed: true, entry: { size: 9999 } }]), 'corrupt'],
    [
      'sizes that differ though it is stored',
      zipOf([{ ...disk('a.img'), streamed: true, entry: { size: 512 } }]),
      'corrupt',
    ],
    ['two headers that contradict each other', zipOf([{ ...disk('a.img'), local: { storedSize: 512 } }]), 'corrupt'],
    ['another method in the local header', zipOf([{ ...disk('a.img'), local: { method: 8 } }]), 'corrupt'],
    ['encryption', zipOf([{ ...disk('a.img'), entry: { flags: 1 }, local: { flags: 1 } }]), 'unsupported'],
    ['Deflate64', zipOf([{ ...disk('a.img'), method: 9 }]), 'unsupported'],
    ['a link', zipOf([{ ...disk('a.img'), entry: { external: (0o120777 << 16) >>> 0 } }]), 'unsupported'],
    ['a name above', zipOf([disk('..\\a.img')]), 'unsupported'],
    ['several volumes', zipOf([disk('a.img')], { end: { volume: 1, directoryVolume: 0 } }), 'unsupported'],
    [
      'a member that reaches into another',
      zipOf([disk('b.txt'), { ...disk('a.img'), entry: { localOffset: 100 } }]),
      'corrupt',
    ],
    [
      'a member past the directory',
      zipOf([{ ...disk('a.img'), streamed: true, entry: { storedSize: 7000, size: 7000 } }]),
      'corrupt',
    ],
    ['64-bit sizes that are not there', zipOf([{ ...disk('a.img'), entry: { size: 0xffff_ffff } }]), 'corrupt'],
    ['another number of entries', zipOf([disk('a.img')], { end: { entries: 2 } }), 'corrupt'],
    ['two directories', zipOf([disk('a.img')], { comment: zipOf([disk('b.img', OTHER)]) }), 'corrupt'],
  ])('refuses %s', async (_, bytes, kind) => {
    expect(await failure(bytes)).toMatchObject({ name: 'ImageError', kind });
  });

  it('names the method, and the encryption', async () => {
    expect(String(await failure(zipOf([{ ...disk('a.img'), method: 14 }])))).toContain('compressed with LZMA');
    expect(String(await failure(zipOf([{ ...disk('a.img'), entry: { flags: 1 } }])))).toContain('encrypted');
  });
});

function deflated(bytes: Uint8Array): Uint8Array {
  const whole = zipOf([{ name: 'x', content: bytes, method: 8 }]);
  const length = new DataView(whole.buffer).getUint32(18, true);
  return whole.subarray(31, 31 + length);
}

describe('images of formats in archives', () => {
  it('are read, checked and converted, for reading alone', async () => {
    const provider = await holding({ 'disk.raw': DATA });
    const vdi = { provider, name: 'disk.vdi' };
    await convert({ provider, name: 'disk.raw' }, vdi, { sourceFormat: 'raw' });
    const file = await provider.open('disk.vdi', 'read');
    const image = new Uint8Array(file.size);
    await file.read(0, image);
    const archives = await holding({
      'a.tar': tarOf([disk('disk.vdi', image)]),
      'a.zip': zipOf([disk('disk.vdi', image)]),
    });
    for (const name of ['a.tar', 'a.zip']) {
      const source = { provider: archives, name };
      expect(await inspect(source)).toMatchObject({ format: 'vdi', guessed: false, virtualSize: DATA.length });
      expect((await checkImage(source)).findings).toEqual([]);
      await convert(source, { provider: archives, name: `${name}.raw` });
      await using raw = await openDisk({ provider: archives, name: `${name}.raw` }, { format: 'raw' });
      const bytes = new Uint8Array(raw.size);
      await raw.read(0, bytes);
      same(bytes);
      await expect(openDisk(source, { mode: 'write' })).rejects.toMatchObject({ kind: 'unsupported' });
      const member = { ...source, member: 'disk.vdi' };
      await expect(openDisk(member, { mode: 'write' })).rejects.toMatchObject({ kind: 'invalid-argument' });
      await expect(openDisk(member, { mode: 'write', format: 'raw' })).rejects.toMatchObject({
        kind: 'invalid-argument',
      });
      expect((await inspect(member, { format: 'raw' })).virtualSize).toBe(image.length);
    }
    await expect(inspect({ ...vdi, member: 'x' })).rejects.toMatchObject({ kind: 'invalid-argument' });
  });

  it('name no files beside the archive', async () => {
    const descriptor = Buffer.from(
      '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n' +
        'RW 12 FLAT "disk-flat.vmdk" 0\n',
    );
    const provider = await holding({ 'a.zip': zipOf([disk('disk.vmdk', descriptor)]), 'disk-flat.vmdk': DATA });
    const source = { provider, name: 'a.zip' };
    for (const allow of [undefined, ['same-directory']] as const) {
      await expect(openDisk(source, { allow })).rejects.toMatchObject({ kind: 'denied' });
    }
  });
});
