/**
 * Compressed clusters at the end of the file. An entry says in sectors how long a stream is, so the last sector may be
 * missing though the stream is whole: decoding tells.
 */
import { hex, isImageError, throwIfAborted } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import type { FindingList } from '../check/finding-list.ts';
import type { Qcow2Header } from '../header/header.ts';
import { decoderOf, readInside } from './encoded.ts';

/** Bytes that are decoded at most. One sector holds some dozens of streams; a file that has more of them is hostile. */
const DECODED_MAX = 64 * 1024 * 1024;
const STREAMS_MAX = 4096;

/** One of them, and the entry that leads to it. */
export interface CutStream {
  readonly offset: number;
  readonly length: number;
  readonly fileOffset: number;
  readonly guestOffset: number | null;
}

/** See the head of this file. */
export class CutStreams {
  readonly #streams = new Map<string, CutStream>();

  add(stream: CutStream): void {
    const key = `${stream.offset} ${stream.length}`;
    if (this.#streams.size < STREAMS_MAX && !this.#streams.has(key)) this.#streams.set(key, stream);
  }

  /** Reports those of which something is missing. */
  async check(image: {
    readonly storage: Storage;
    readonly header: Qcow2Header;
    readonly list: FindingList;
    readonly options: OperationOptions;
  }): Promise<void> {
    const { storage, header, list, options } = image;
    const decode = decoderOf(header);
    let left = Math.max(DECODED_MAX / header.clusterSize, 1);
    for (const { offset, length, fileOffset, guestOffset } of this.#streams.values()) {
      throwIfAborted(options.signal, 'The check');
      if (left-- < 1) return;
      try {
        await decode(await readInside(storage, offset, length), header.clusterSize);
      } catch (error) {
        if (!isImageError(error) || error.kind !== 'corrupt') throw error;
        const say = (): string => `The compressed cluster at ${hex(offset)} is cut off by the end of the file.`;
        list.add('corruption', 'beyond-file', say, { fileOffset, guestOffset, repairable: false });
      }
    }
  }
}
