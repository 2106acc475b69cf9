import { describe, expect, it } from 'vitest';
import {
  chainOf,
  childrenOf,
  DEFAULT_TOP,
  type Descriptor,
  nameInside,
  parseDescriptor,
  parseText,
} from './descriptor.ts';
import { newText, withoutShots, withParent, withShot, withSize } from './edit.ts';
import { geometryFor } from './image.ts';
import { BUNDLE_LIMITS } from './limits.ts';

const PATH = '/d.hdd/DiskDescriptor.xml';
const ZERO = '00000000-0000-0000-0000-000000000000';
const BACKUP = '704718e1-2314-44c8-9087-d78ed36b0f4e';
/** A GUID with this digit. */
const id = (digit: string): string => `${digit.repeat(8)}-1111-4111-8111-${digit.repeat(12)}`;

interface Wanted {
  /** Children and their parents. */
  readonly shots?: readonly (readonly [string, string])[];
  readonly top?: string | null;
  readonly parameters?: string;
  readonly storages?: string;
  readonly more?: string;
}

const SHOTS = [
  [id('a'), ZERO],
  [DEFAULT_TOP, id('a')],
] as const;

function image(guid: string, type = 'Compressed', file = `d.hds.${guid.slice(0, 4)}`): string {
  return `<Image><GUID>{${guid}}</GUID><Type>${type}</Type><File>${file}</File></Image>`;
}

function storage(start: number, end: number, images: string, blocksize: number | string = 128): string {
  return `<Storage><Start>${start}</Start><End>${end}</End><Blocksize>${blocksize}</Blocksize>${images}</Storage>`;
}

function text({ shots = SHOTS, top = null, parameters = '', storages, more = '' }: Wanted = {}): string {
  const images = [...new Map(shots)].map(([guid]) => image(guid)).join('');
  const list = shots.map(([guid, parent]) => `<Shot><GUID>{${guid}}</GUID><ParentGUID>{${parent}}</ParentGUID></Shot>`);
  return `<?xml version="1.0" encoding="UTF-8"?>
<Parallels_disk_image Version="1.0">
  <Disk_Parameters><Disk_size>2048</Disk_size><Cylinders>2</Cylinders><Heads>16</Heads><Sectors>64</Sectors>${parameters}</Disk_Parameters>
  <StorageData>${storages ?? storage(0, 2048, images)}</StorageData>
  <Snapshots>${top === null ? '' : `<TopGUID>{${top}}</TopGUID>`}
    ${list.join('\n    ')}
  </Snapshots>${more}
</Parallels_disk_image>
`;
}

const parsed = (wanted: Wanted = {}): Descriptor => parseText(text(wanted), PATH);
const refused = (wanted: Wanted | string): string => {
  try {
    parseText(typeof wanted === 'string' ? wanted : text(wanted), PATH);
  } catch (error) {
    const { kind, context } = error as { kind: string; context: { field?: string } };
    return context.field === undefined ? kind : `${kind} ${context.field}`;
  }
  return 'accepted';
};

describe('a descriptor', () => {
  it('gives size, parts and the tree', () => {
    const descriptor = parsed();
    expect(descriptor).toMatchObject({ size: 2048, top: DEFAULT_TOP, geometry: { heads: 16 } });
    expect(chainOf(descriptor, descriptor.top)).toEqual([DEFAULT_TOP, id('a')]);
    expect(childrenOf(descriptor, id('a'))).toEqual([DEFAULT_TOP]);
    expect(parsed({ top: id('a') }).top).toBe(id('a'));
  });

  it('puts parts in order, whatever their order in the text', () => {
    const each = (part: number) => SHOTS.map(([guid], at) => image(guid, 'Compressed', `${part}.${at}`)).join('');
    const storages = storage(1024, 2048, each(1)) + storage(0, 1024, each(0));
    expect(parsed({ storages }).parts.map(({ start, end }) => [start, end])).toEqual([
      [0, 1024],
      [1024, 2048],
    ]);
  });

  it('is read with a byte order mark and carriage returns', () => {
    const bytes = new TextEncoder().encode(`\uFEFF${text().replaceAll('\n', '\r\n')}`);
    expect(parseDescriptor(bytes, PATH).text).toBe(text());
    expect(() => parseDescriptor(Uint8Array.of(0xff, 0xfe, 60, 0), PATH)).toThrow('not UTF-8');
  });

  it.each<[string, Wanted | string, string]>([
    ['without content', '', 'corrupt'],
    ['that is no XML', '<a><b></a>', 'corrupt'],
    ['with a document type', `<!DOCTYPE a [<!ENTITY b "c">]>${text()}`, 'unsupported'],
    ['with an unknown entity', { parameters: '<Padding>&b;</Padding>' }, 'corrupt'],
    ['of another root', '<a/>', 'corrupt root element'],
    ['of another version', text().replace('Version="1.0"', 'Version="2.0"'), 'unsupported'],
    ['nested too deeply', { more: '<a>'.repeat(40) + '</a>'.repeat(40) }, 'limit'],
    ['nested endlessly', '<a>'.repeat(300_000), 'limit'],
    ['with padding', { parameters: '<Padding>8</Padding>' }, 'unsupported Padding'],
    [
      'that is encrypted',
      { parameters: `<Encryption><Engine>{${id('b')}}</Engine></Encryption>` },
      'unsupported Encryption',
    ],
    ['without snapshots', { shots: [] }, 'corrupt Snapshots'],
    ['with two roots', { shots: [...SHOTS, [id('b'), ZERO]] }, 'corrupt Snapshots'],
    ['with a circle', { shots: [...SHOTS, [id('b'), id('c')], [id('c'), id('b')]] }, 'corrupt Shot/ParentGUID'],
    ['with a circle instead of a root', { shots: [[DEFAULT_TOP, DEFAULT_TOP]] }, 'corrupt Snapshots'],
    ['with an unknown parent', { shots: [...SHOTS, [id('b'), id('c')]] }, 'corrupt Shot/ParentGUID'],
    ['with a snapshot twice', { shots: [...SHOTS, [id('a'), DEFAULT_TOP]] }, 'corrupt Shot/GUID'],
    ['with an image twice', { storages: storage(0, 2048, image(id('a')) + image(id('a'))) }, 'corrupt Image/GUID'],
    ['without an image of the top', { storages: storage(0, 2048, image(id('a'))) }, 'corrupt Image'],
    ['of an unknown type', { storages: storage(0, 2048, image(id('a'), 'Zipped')) }, 'unsupported Image/Type'],
    [
      'with a plain top',
      { storages: storage(0, 2048, image(id('a')) + image(DEFAULT_TOP, 'Plain')) },
      'corrupt Image/Type',
    ],
    ['with a backup as top', { shots: [...SHOTS, [BACKUP, id('a')]], top: BACKUP }, 'corrupt TopGUID'],
    ['with an unknown top', { top: id('d') }, 'corrupt TopGUID'],
    ['without the usual top', { shots: [[id('a'), ZERO]] }, 'corrupt TopGUID'],
    ['with a gap', { storages: storage(8, 2048, '') }, 'corrupt Start'],
    ['with an overlap', { storages: storage(0, 1024, '') + storage(512, 2048, '') }, 'corrupt Start'],
    ['that ends too early', { storages: storage(0, 1024, '') }, 'corrupt End of the last Storage'],
    ['with a part backwards', { storages: storage(0, 2048, '') + storage(2048, 2048, '') }, 'corrupt End'],
    [
      'without clusters',
      { storages: storage(0, 2048, SHOTS.map(([guid]) => image(guid)).join(''), 0) },
      'corrupt Blocksize',
    ],
    ['with a negative number', { storages: storage(0, 2048, '', '-1') }, 'corrupt Storage/Blocksize'],
    ['with a size twice', { parameters: '<Disk_size>2048</Disk_size>' }, 'corrupt Disk_Parameters/Disk_size'],
    ['with a file of no name', { storages: storage(0, 2048, image(id('a'), 'Plain', '')) }, 'corrupt Image/File'],
    [
      'with a file twice',
      { storages: storage(0, 2048, SHOTS.map(([guid]) => image(guid, 'Compressed', 'a')).join('')) },
      'corrupt Image/File',
    ],
    [
      'with itself as a file',
      { storages: storage(0, 2048, image(id('a'), 'Plain', 'DiskDescriptor.xml')) },
      'corrupt Image/File',
    ],
    ['of no size', text().replace('<Disk_size>2048', '<Disk_size>0'), 'corrupt Disk_size'],
    ['of a huge size', text().replace('<Disk_size>2048', '<Disk_size>9007199254740991'), 'corrupt Disk_size'],
  ])('%s is refused', (_, wanted, kind) => {
    expect(refused(wanted)).toBe(kind);
  });

  it('has a bounded number of entries', () => {
    const many = Array.from({ length: BUNDLE_LIMITS.entries + 1 }, (_, index) => storage(index, index + 1, ''));
    expect(refused({ storages: many.join('') })).toBe('limit');
  });

  it('keeps what it does not know when it changes', () => {
    const before = parsed({ more: '\n  <!-- kept --><Unknown a="1">x &amp; y</Unknown>' });
    const after = withShot(before, id('b'), 'a & b.hds');
    expect(after.top).toBe(id('b'));
    expect(chainOf(after, id('b'))).toEqual([id('b'), DEFAULT_TOP, id('a')]);
    expect(after.parts[0]?.files.get(id('b'))).toMatchObject({ type: 'Compressed', file: 'a & b.hds' });
    expect(after.text).toContain('<!-- kept --><Unknown a="1">x &amp; y</Unknown>');
    // Taken away again, all that is left of it is the name of the top.
    const back = withoutShots(after, new Set([id('b')])).text;
    expect(back.replace(/\s*<TopGUID>.*<\/TopGUID>/, '')).toBe(before.text);
  });

  it('closes the gap where snapshots go', () => {
    const before = withShot(withShot(parsed(), id('b'), 'b.hds'), id('c'), 'c.hds');
    const between = withoutShots(before, new Set([DEFAULT_TOP, id('b')]));
    expect(chainOf(between, between.top)).toEqual([id('c'), id('a')]);
    const above = withoutShots(before, new Set([id('c'), id('b')]));
    expect([above.top, chainOf(above, above.top)]).toEqual([DEFAULT_TOP, [DEFAULT_TOP, id('a')]]);
    const below = withoutShots(before, new Set([id('a'), DEFAULT_TOP]));
    expect(chainOf(below, below.top)).toEqual([id('c'), id('b')]);
    expect([...(below.parts[0]?.files.keys() ?? [])]).toEqual([id('b'), id('c')]);
  });

  it('refuses to lose the image that others are made from', () => {
    const branch = parsed({ shots: [...SHOTS, [id('b'), id('a')]] });
    expect(() => withoutShots(branch, new Set([id('a')]))).toThrow('not valid');
  });

  it('takes another parent, and another size', () => {
    const branch = parsed({ shots: [...SHOTS, [id('b'), DEFAULT_TOP]] });
    expect(withParent(branch, id('b'), id('a')).shots.get(id('b'))?.parent).toBe(id('a'));
    const larger = withSize(parsed(), 4096, geometryFor(4096 * 512));
    expect([larger.size, larger.parts[0]?.end, larger.geometry]).toEqual([4096, 4096, geometryFor(4096 * 512)]);
  });

  it('of a new disk is valid', () => {
    const size = 63 * 16 * 7;
    const made = newText({
      size,
      geometry: geometryFor(size * 512),
      blocksize: 2048,
      id: DEFAULT_TOP,
      file: 'a<b>.hds',
    });
    expect(parseText(made, PATH)).toMatchObject({ size, top: DEFAULT_TOP, geometry: { cylinders: 7, sectors: 63 } });
  });

  it.each([
    ['d.hds', 'd.hds'],
    ['sub/d.hds', 'sub/d.hds'],
    ['/Users/a/Parallels/x.hdd/d.hds', 'd.hds'],
    ['C:\\disks\\d.hds', 'd.hds'],
    ['../d.hds', 'd.hds'],
    ['sub/../../d.hds', 'd.hds'],
  ])('looks for %s in the bundle as %s', (stored, inside) => expect(nameInside(stored)).toBe(inside));
});
