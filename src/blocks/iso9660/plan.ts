/**
 * The plan of an ISO 9660 image: where everything lies, and all bytes except those of the files. The data of the files is
 * only named, so a plan takes memory for its names and none for their content. Equal trees give equal plans.
 *
 *   0 system area │ 16 descriptors │ path tables │ directories │ Joliet directories │ catalog │ files │ zeroes
 */
import { ImageError } from '../../errors.ts';
import { bootCatalog, bootRecord, withBootInfo } from './boot.ts';
import { longDate } from './dates.ts';
import { Directories } from './directories.ts';
import { BLOCK, DESCRIPTOR, JOLIET_ESCAPES, STANDARD_ID, SYSTEM_BLOCKS, VOLUME } from './layout.ts';
import { JOLIET, plainNames, utf16 } from './names.ts';
import type { BootImage, IsoContent, IsoNode, IsoRecipe, IsoTexts } from './tree.ts';

/** The content of a file in its place. */
export interface PlacedContent {
  readonly offset: number;
  readonly content: IsoContent;
}

/** See the head of this file. */
export interface IsoPlan {
  /** Bytes of the image. */
  readonly size: number;
  /** From byte 0 on: everything before the first file. */
  readonly head: Uint8Array;
  /** In ascending order, none of them empty; what lies between them is zero. */
  readonly contents: readonly PlacedContent[];
  /** Files with a boot information table: their bytes instead of those on the host. */
  readonly replaced: ReadonlyMap<IsoContent, Uint8Array>;
}

const ASCII = new TextEncoder();

/** Makes the plan. Throws `limit` for trees that no image can hold. */
export function planIso(recipe: IsoRecipe): IsoPlan {
  const { root, boot, level, joliet } = recipe;
  const spaces = [new Directories(root, plainNames(level), recipe)];
  if (joliet !== null) spaces.push(new Directories(joliet.root, JOLIET, { rockRidge: 'none', level }));
  // Primary descriptor, boot record, one for each further name space, terminator.
  let block = SYSTEM_BLOCKS + spaces.length + 1 + (boot.length > 0 ? 1 : 0);
  const tables = spaces.map((space) => {
    const bytes = space.pathTableBytes;
    const blocks = Math.ceil(bytes / BLOCK);
    const place = { little: block, big: block + blocks, bytes };
    block += 2 * blocks;
    return place;
  });
  for (const space of spaces) block = space.place(block);
  const catalog = block;
  if (boot.length > 0) block++;
  const headBlocks = block;
  const roots = joliet === null || joliet.root === root ? [root] : [root, joliet.root];
  // A boot image may be without a name.
  for (const { node } of boot) roots.push(node);
  const { extents, contents, end } = placeContents(
    roots,
    block,
    recipe.catalog === null ? [] : [[recipe.catalog, catalog]],
  );
  const blocks = end + recipe.pad;
  if (blocks > 0xffff_ffff) throw tooLarge(blocks);
  const head = new Uint8Array(headBlocks * BLOCK);
  if (recipe.system !== null) head.set(recipe.system);
  for (const space of spaces) space.writeInto(head, extents);
  for (const [at, { little, big }] of tables.entries()) {
    head.set(spaces[at]?.pathTable('little') ?? [], little * BLOCK);
    head.set(spaces[at]?.pathTable('big') ?? [], big * BLOCK);
  }
  const blockOf = ({ node }: BootImage): number => (node.content === null ? 0 : (extents.get(node.content) ?? 0));
  if (boot.length > 0) head.set(bootCatalog(boot, blockOf), catalog * BLOCK);
  const facts = { recipe, blocks, spaces, tables };
  const descriptors = [
    volume(facts, 0),
    ...(boot.length > 0 ? [bootRecord(catalog)] : []),
    ...(joliet === null ? [] : [volume(facts, 1)]),
    terminator(),
  ];
  for (const [at, bytes] of descriptors.entries()) head.set(bytes, (SYSTEM_BLOCKS + at) * BLOCK);
  return { size: blocks * BLOCK, head, contents, replaced: replacedOf(boot, blockOf) };
}

/** Contents one behind the other, each in whole blocks; one that several names have comes once. */
function placeContents(roots: readonly IsoNode[], first: number, placed: readonly [IsoContent, number][]) {
  const extents = new Map<IsoContent, number>(placed);
  const contents: PlacedContent[] = [];
  let block = first;
  const waiting: IsoNode[] = roots.toReversed();
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    const { content, children } = node;
    if (children !== null) for (let at = children.length - 1; at >= 0; at--) waiting.push(children[at] as IsoNode);
    if (content === null || content.size === 0 || extents.has(content)) continue;
    extents.set(content, block);
    contents.push({ offset: block * BLOCK, content });
    block += Math.ceil(content.size / BLOCK);
  }
  return { extents, contents, end: block };
}

function replacedOf(boot: readonly BootImage[], blockOf: (image: BootImage) => number): Map<IsoContent, Uint8Array> {
  const replaced = new Map<IsoContent, Uint8Array>();
  for (const image of boot) {
    const { withInfo, node } = image;
    if (withInfo !== null && node.content !== null) replaced.set(node.content, withBootInfo(withInfo, blockOf(image)));
  }
  return replaced;
}

interface VolumeFacts {
  readonly recipe: IsoRecipe;
  readonly blocks: number;
  readonly spaces: readonly Directories[];
  readonly tables: readonly { readonly little: number; readonly big: number; readonly bytes: number }[];
}

function volume({ recipe, blocks, spaces, tables }: VolumeFacts, space: number): Uint8Array {
  const joliet = space > 0 ? recipe.joliet : null;
  const isJoliet = joliet !== null;
  const { createdMs } = recipe;
  const texts = joliet?.texts ?? recipe.texts;
  const [directories, table] = [spaces[space], tables[space]];
  if (directories === undefined || table === undefined) throw new Error('internal: the name space was laid out');
  const escapes = new Uint8Array(32);
  if (isJoliet) escapes.set(ASCII.encode(JOLIET_ESCAPES[joliet.level]));
  const text = (value: string, bytes: number): Uint8Array => (isJoliet ? wide(value, bytes) : narrow(value, bytes));
  const created = longDate(createdMs);
  return VOLUME.encode({
    type: isJoliet ? DESCRIPTOR.supplementary : DESCRIPTOR.primary,
    id: ASCII.encode(STANDARD_ID),
    version: 1,
    flags: 0,
    system: text(texts.system, 32),
    volume: text(isJoliet ? texts.volume : texts.volume.toUpperCase().replace(/[^A-Z0-9_]/g, '_'), 32),
    unused: new Uint8Array(8),
    blocks,
    escapes,
    setSize: 1,
    sequence: 1,
    blockSize: BLOCK,
    pathTableBytes: table.bytes,
    pathTable: table.little,
    pathTableCopy: 0,
    pathTableBig: table.big,
    pathTableBigCopy: 0,
    root: directories.rootRecord,
    ...describing(texts, text),
    created,
    modified: created,
    expires: longDate(null),
    effective: longDate(null),
    structure: 1,
    reserved: 0,
    applicationUse: new Uint8Array(512),
    rest: new Uint8Array(653),
  });
}

function describing(texts: IsoTexts, text: (value: string, bytes: number) => Uint8Array) {
  return {
    volumeSet: text(texts.volumeSet, 128),
    publisher: text(texts.publisher, 128),
    preparer: text(texts.preparer, 128),
    application: text(texts.application, 128),
    copyright: text(texts.copyright, 37),
    abstract: text(texts.abstract, 37),
    bibliography: text(texts.bibliography, 37),
  };
}

function terminator(): Uint8Array {
  const bytes = new Uint8Array(BLOCK);
  bytes.set([DESCRIPTOR.end, ...ASCII.encode(STANDARD_ID), 1]);
  return bytes;
}

function narrow(value: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(0x20);
  bytes.set(ASCII.encode(value.replace(/[^\x20-\x7e]/g, '_')).subarray(0, length));
  return bytes;
}

/** UTF-16 padded with blanks; a byte that is left over is zero. */
function wide(value: string, length: number): Uint8Array {
  const even = length - (length % 2);
  const bytes = new Uint8Array(length);
  bytes.set(utf16(value.slice(0, even / 2).padEnd(even / 2, ' ')));
  return bytes;
}

function tooLarge(blocks: number): ImageError {
  return new ImageError('limit', 'The files together are larger than an ISO 9660 image can be', {
    found: `${blocks} blocks of ${BLOCK} bytes`,
    expected: 'at most 2^32 - 1',
  });
}
