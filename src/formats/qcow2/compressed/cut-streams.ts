/**
 * Compressed clusters at the end of the file. An entry gives the length of a stream in sectors, so the last sector may
 * be missing though the stream is complete: decoding tells.
 */
import { readInside } from '../../../blocks/chunk-reader.ts';
import { hex, isImageError, throwIfAborted } from '../../../errors.ts';
import type { OperationOptions, Storage } from '../../../storage/contract.ts';
import type { FindingList } from '../check/finding-list.ts';
import type { Qcow2Header } from '../header/header.ts';
import { decoderOf } from './encoded.ts';

/** Limit of decoded bytes. One sector holds some dozens of streams; a file with more of them is hostile. */
const DECODED_MAX = 64 * 1024 * 1024;
const STREAMS_MAX = 4096;

/** A truncated stream, and its entry. */
export interface CutStream {
  readonly offset: number;
  readonly length: number;
  readonly fileOffset: number;
  readonly guestOffset: number | null;
}

/** Compressed clusters at the end of the file, collected for a check. */
export class CutStreams {
  readonly #streams = new Map<string, CutStream>();

  add(stream: CutStream): void {
    const key = `${stream.offset} ${stream.length}`;
    if (this.#streams.size < STREAMS_MAX && !this.#streams.has(key)) this.#streams.set(key, stream);
  }

  /** Reports the incomplete ones. */
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
