/** Transfers of whole buffers through file descriptors: partial transfers are continued. */
import * as fs from 'node:fs';
import type { WriteTurns } from './write-turns.ts';

/** Maximum number of buffers in one readv or writev. */
const IOV_MAX = 1024;
/** Maximum bytes of one read or write; systems stop at 2 GiB. */
const CALL_BYTES = 2 ** 30;

/** Thrown when a file ends before the buffer is full. */
export class EndOfFile extends Error {
  readonly offset: number;

  constructor(offset: number) {
    super('end of file');
    this.offset = offset;
  }
}

type Done = (error: Error | null, count: number) => void;

/** Fills a buffer, or throws {@link EndOfFile}. */
export function readFully(fd: number, offset: number, target: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const next = (): void => fs.read(fd, target, done, Math.min(target.length - done, CALL_BYTES), offset + done, end);
    const end: Done = (error, count) => {
      if (error !== null) return reject(error);
      if (count === 0 && target.length > 0) return reject(new EndOfFile(offset + done));
      done += count;
      if (done < target.length) next();
      else resolve();
    };
    next();
  });
}

/** Writes a whole buffer; with `turns` while no other write of them runs. */
export function writeFully(
  fd: number,
  offset: number,
  source: Uint8Array,
  turns: WriteTurns | null = null,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let done = 0;
    const next = (): void => fs.write(fd, source, done, Math.min(source.length - done, CALL_BYTES), offset + done, end);
    const end: Done = (error, count) => {
      if (error === null) {
        done += count;
        if (done < source.length) return next();
      }
      turns?.leave();
      if (error === null) resolve();
      else reject(error);
    };
    if (turns === null) next();
    else turns.enter(next);
  });
}

/** Fills buffers that follow each other in the file. */
export function readListFully(fd: number, offset: number, list: readonly Uint8Array[]): Promise<void> {
  return moveList(offset, list, async (at, group) => {
    const count = await vectorCall((done) => fs.readv(fd, group, at, done));
    if (count === 0) throw new EndOfFile(at);
    return count;
  });
}

/** Writes buffers consecutively; with `turns` while no other write of them runs. */
export async function writeListFully(
  fd: number,
  offset: number,
  list: readonly Uint8Array[],
  turns: WriteTurns | null = null,
): Promise<void> {
  if (turns !== null) await new Promise<void>((resolve) => turns.enter(resolve));
  try {
    await moveList(offset, list, (at, group) => vectorCall((done) => fs.writev(fd, group, at, done)));
  } finally {
    turns?.leave();
  }
}

function vectorCall(start: (done: Done) => void): Promise<number> {
  return new Promise((resolve, reject) => {
    start((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}

async function moveList(
  offset: number,
  list: readonly Uint8Array[],
  move: (at: number, group: Uint8Array[]) => Promise<number>,
): Promise<void> {
  let at = offset;
  let rest = list.filter((buffer) => buffer.length > 0);
  while (rest.length > 0) {
    const moved = await move(at, rest.slice(0, IOV_MAX));
    at += moved;
    rest = listAfter(rest, moved);
  }
}

/** The rest of a source after its first `count` bytes. */
export function afterBytes(source: Uint8Array | readonly Uint8Array[], count: number): Uint8Array | Uint8Array[] {
  return source instanceof Uint8Array ? source.subarray(count) : listAfter(source, count);
}

function listAfter(list: readonly Uint8Array[], count: number): Uint8Array[] {
  let skip = count;
  let index = 0;
  for (let buffer = list[0]; buffer !== undefined && skip >= buffer.length; buffer = list[++index])
    skip -= buffer.length;
  const rest = list.slice(index);
  const first = rest[0];
  if (first !== undefined && skip > 0) rest[0] = first.subarray(skip);
  return rest;
}
