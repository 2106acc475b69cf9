/** The data of a DMG: in one file, or in its segments. */
import { type ImageFiles, mainFile } from '../../image/files.ts';
import type { Storage } from '../../storage/contract.ts';
import type { Segment } from './segments.ts';
import { type DmgTable, readTables } from './tables.ts';
import { readTrailer, type Trailer } from './trailer.ts';

/** An open DMG: what its trailer, its tables and its data are read from. */
export interface DmgSource {
  /** The named file, with the trailer. */
  readonly main: Storage;
  readonly trailer: Trailer;
  readonly tables: readonly DmgTable[];
  /** What the chunks lie in. */
  readonly data: Storage;
  /** Where the data ends: no chunk lies beyond. */
  readonly dataEnd: number;
  /** The further files. */
  readonly segments: readonly Segment[];
}

/** Reads trailer and tables, and opens the segments. Throws `invalid-format`, `corrupt`, `unsupported`, `limit`. */
export async function openSource(files: ImageFiles): Promise<DmgSource> {
  const main = mainFile(files);
  const trailer = await readTrailer(main);
  if (trailer.segments > 1 || trailer.segment > 1) {
    return (await import('./segments.ts')).openSegments(files, main, trailer);
  }
  const tables = await readTables(main, trailer);
  return { main, trailer, tables, data: main, dataEnd: trailer.fileOffset, segments: [] };
}
