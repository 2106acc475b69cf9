/** The names of other files in the header. */
import { ImageError } from '../../../errors.ts';
import type { ParentLink } from '../../../image/contract.ts';
import { storedName } from '../../../image/parent.ts';
import { requireText } from '../create.ts';
import { BACKING_NAME_MAX, EXTENSION_TYPE } from '../layout.ts';
import { withExtension } from './extensions.ts';
import type { Qcow2Header } from './header.ts';

/** The header with another backing file, or none. `directory`: that of the image. */
export function withParent(header: Qcow2Header, parent: ParentLink | null, directory: string): Qcow2Header {
  const format = parent === null ? null : new TextEncoder().encode(parent.format);
  return {
    ...header,
    backingName: parent === null ? null : storedName(directory, parent.name),
    backingFormat: parent?.format ?? null,
    extensions: withExtension(header.extensions, EXTENSION_TYPE.backingFormat, format),
  };
}

/** The header with other names for the same files. Throws `limit`; `path`: for errors. */
export function withNames(header: Qcow2Header, names: ReadonlyMap<string, string>, path: string): Qcow2Header {
  const { backingName, dataFileName, extensions } = header;
  const [backing, data] = [backingName, dataFileName].map((name) => names.get(name ?? '') ?? name);
  const bytes = new TextEncoder().encode(data ?? '');
  refuseLongName(backing ?? '', path);
  for (const name of [backing, data]) requireText(name ?? '');
  return {
    ...header,
    backingName: backing ?? null,
    dataFileName: data ?? null,
    extensions: data === dataFileName ? extensions : withExtension(extensions, EXTENSION_TYPE.dataFile, bytes),
  };
}

function refuseLongName(name: string, path: string): void {
  const { length } = new TextEncoder().encode(name);
  if (length <= BACKING_NAME_MAX) return;
  throw new ImageError('limit', 'The name of the backing file would be too long', {
    path,
    found: `${length} bytes`,
    expected: `at most ${BACKING_NAME_MAX}`,
    hint: 'Move the files closer together, so that the relative path is shorter.',
  });
}
