/** TRANS.TBL: a table in each directory that gives the names on the host for the primary names. */
import { namedEntries, plainNames } from '../../blocks/iso9660/names.ts';
import type { IsoLevel, IsoNode } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import { allBelow, Branch } from './branch.ts';

const NAME = 'TRANS.TBL';
/** Columns of the primary name, as mkisofs has them. */
const COLUMNS = 34;

/** Adds the tables to a tree. Throws `invalid-format` where a file has that name. */
export function addTranslations(root: Branch, level: IsoLevel, path: string): void {
  const space = plainNames(level);
  for (const directory of [...allBelow(root)].filter((node) => node instanceof Branch)) {
    const entries = namedEntries([...directory.entries.values()], space);
    const lines = entries.map(({ node, name }) => {
      if (name.length === NAME.length + 2 && new TextDecoder().decode(name) === `${NAME};1`)
        throw taken(path, node.name);
      return `${kindOf(node)} ${new TextDecoder().decode(name).padEnd(COLUMNS)}\t${node.name}\n`;
    });
    const bytes = new TextEncoder().encode(lines.join(''));
    const modifiedMs = directory.ownModifiedMs ?? 0;
    const content = { size: bytes.length, bytes };
    directory.entries.set(NAME, { name: NAME, modifiedMs, executable: false, children: null, content, target: null });
  }
}

function kindOf({ children, target }: IsoNode): string {
  return children !== null ? 'D' : target !== null ? 'L' : 'F';
}

function taken(path: string, found: string): ImageError {
  return new ImageError('invalid-format', `A file of the VISO file has the name of the table ${NAME}`, {
    path,
    found,
    hint: `Leave out trans-tbl in --name-setup, or take the file out with =:remove:.`,
  });
}
