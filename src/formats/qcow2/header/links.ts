/** The names of other files in the header. */
import { encodeBackingName, requireText } from '../../../image/backing-name.ts';
import type { ParentLink } from '../../../image/contract.ts';
import { storedName } from '../../../image/parent.ts';
import { BACKING_NAME_MAX, EXTENSION_TYPE } from '../layout.ts';
import { encodeFormat } from './backing-format.ts';
import { withExtension } from './extensions.ts';
import type { Qcow2Header } from './header.ts';

/** The header with another backing file, or none. `directory`: that of the image. */
export function withParent(header: Qcow2Header, parent: ParentLink | null, directory: string): Qcow2Header {
  const format = parent === null ? null : encodeFormat(parent.format);
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
  encodeBackingName(backing ?? '', BACKING_NAME_MAX, path);
  requireText(data ?? '');
  return {
    ...header,
    backingName: backing ?? null,
    dataFileName: data ?? null,
    extensions: data === dataFileName ? extensions : withExtension(extensions, EXTENSION_TYPE.dataFile, bytes),
  };
}
