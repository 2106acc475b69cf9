/** Reasons for not opening an image that few openings need: loaded then. */
import { ImageError } from '../../errors.ts';

/** A file that nothing identifies, and that would be written. */
export function guessedForWriting(path: string): ImageError {
  return new ImageError('denied', 'The file does not look like an image, and is not assumed to be raw for writing', {
    path,
    hint: 'Specify its format: format "raw" (on the command line: --format raw).',
  });
}

/** A snapshot was named of an image that has none. */
export function noSnapshots(format: string, path: string): ImageError {
  return new ImageError('unsupported', `Format ${format} has no internal snapshots`, { path });
}

/** A stream of a format that is read at random. */
export function notForStreams(format: string, path: string): ImageError {
  return new ImageError('unsupported', `A ${format} image cannot be read from a stream: its data is not in order`, {
    path,
    hint: 'Read it into a file or into memory first.',
  });
}

/** A member was named of a file that is not read as an archive. */
export function noArchive(path: string, writing: boolean): ImageError {
  const why = writing ? 'Members of archives are opened for reading only' : 'The file is not an archive';
  const hint = writing ? 'Unpack the archive first.' : 'Omit the member.';
  return new ImageError('invalid-argument', `${why}, so no member can be chosen`, { path, hint });
}
