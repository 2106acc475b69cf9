/** cloop 2.x on disk, after `cloop.h`: a script, a header and a table of offsets. All integers big-endian. */
import { struct, u32 } from '../../binary/struct.ts';

/** A shell script that mounts the file, padded with zeroes to `HEADER_OFFSET`. */
export const PREAMBLE = '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n';
export const HEADER_OFFSET = 128;

/** `struct cloop_head` behind the script. */
export const HEADER = struct('big', 8, {
  blockSize: u32(0), // uncompressed, in bytes
  blockCount: u32(4),
});
/** One offset more than there are blocks: each block ends where the next one begins. */
export const TABLE_OFFSET = HEADER_OFFSET + HEADER.size;
export const ENTRY_BYTES = 8;

/** QEMU's bounds. */
export const LIMITS = { blockBytes: 64 * 1024 * 1024, tableBytes: 512 * 1024 * 1024 } as const;
/** A zlib stream is longer than this. */
export const STORED_MIN = 2;
