/**
 * A new header of an image of blocks. It has two sectors, and names that lie elsewhere belong to it, so it is written twice,
 * each step durable before the next:
 *   1. a footer further behind, then the names and the new header in front of it, behind the last block;
 *   2. the footers name that header;
 *   3. the header and its names at their place;
 *   4. the footers name that place. The caller cuts off what was written behind the last block.
 */
import { assert } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import type { Footers } from './footers.ts';
import { encodeHeader } from './header.ts';
import { type Footer, HEADER, type Header } from './layout.ts';

/** A header, and the names that it leads to. */
export interface NewHeader {
  readonly header: Header;
  readonly names: readonly { readonly fileOffset: number; readonly bytes: Uint8Array }[];
}

/** See the head of this file. */
export interface HeaderChange {
  readonly storage: Storage;
  readonly footers: Footers;
  /** The footer afterwards; its data offset follows from the place of the header. */
  readonly footer: Footer;
  /** Bytes of the names behind the last block. */
  readonly room: number;
  /** The header behind the last block, whose names begin at a file offset. */
  behind(fileOffset: number): NewHeader;
  readonly last: NewHeader;
  /** Place of the header afterwards. */
  readonly headerOffset: number;
}

/** Replaces the header. The footer must lie behind the last block. */
export async function replaceHeader(change: HeaderChange): Promise<void> {
  const { storage, footers, footer, room, headerOffset } = change;
  const start = footers.fileOffset;
  assert(start !== null, 'the footer lies behind the last block');
  const place = start + room;
  const end = place + HEADER.size;
  await footers.move(end);
  await writeHeader(storage, change.behind(start), place);
  await footers.replace({ ...footer, dataOffset: BigInt(place) }, end);
  await writeHeader(storage, change.last, headerOffset);
  await footers.replace({ ...footer, dataOffset: BigInt(headerOffset) }, end);
}

async function writeHeader(storage: Storage, { header, names }: NewHeader, fileOffset: number): Promise<void> {
  for (const { fileOffset: at, bytes } of names) await storage.write(at, bytes);
  await storage.write(fileOffset, encodeHeader(header));
  await storage.flush();
}
