/** Errors of a move. */
import type { OpenedImage } from '../disk/open/image-file.ts';
import { ImageError, printable } from '../errors.ts';

/** A rename cannot reach another file system. */
export function otherDevice(path: string): ImageError {
  return new ImageError('unsupported', 'The source and the target are on different file systems', {
    path,
    status: 'VERR_NOT_SAME_DEVICE',
    hint: 'Move the image instead (moveImage; on the command line: copy --move).',
  });
}

/** Nothing is replaced. */
export function takenBy(path: string): ImageError {
  return new ImageError('exists', 'The target already exists', {
    path,
    hint: 'Choose another name.',
  });
}

/** A symbolic link counts from its own directory. */
export function linkMoved(path: string, real: string): ImageError {
  return new ImageError('unsupported', 'The name is a symbolic link, which would not resolve from the new directory', {
    path,
    found: `a link to ${real}`,
    hint: 'Specify the file itself.',
  });
}

/** A part that is not there. */
export function missingPart(path: string, part: string): ImageError {
  return new ImageError('not-found', 'A file of the image is missing', {
    path,
    found: `no file ${printable(part)}`,
  });
}

/** A part that cannot have a second name. */
export function partsStay(path: string, part: string): ImageError {
  return new ImageError('unsupported', 'A data file of the image cannot be renamed across file systems', {
    path,
    found: part,
    hint: 'Move the image instead (moveImage; on the command line: copy --move).',
  });
}

/** The format stores no other names. */
export function cannotReaddress({ name, format }: OpenedImage): ImageError {
  return new ImageError('unsupported', `Images of format ${format} cannot store new names of their files`, {
    path: name,
    hint: 'Convert the image.',
  });
}

/** The name leads to another file now. */
export function exchanged(path: string): ImageError {
  return new ImageError('busy', 'Another program replaced the image', { path });
}
