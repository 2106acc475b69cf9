/** Adding a format touches five places: shown by the one that was added last. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { ROOT } from '../../scripts/prepare.mjs';

const FORMAT = 'bochs';
/** Its folder, its kit, and its golden images, which programs made. */
const OWN = new RegExp(`^(?:src/formats|test/formats|test/golden)/${FORMAT}(?:/|\\.ts$)`);
/** A line in the list, a row in the guide. */
const LINES = ['docs/guide.md', 'src/formats/index.ts'];
/** Formats that were only recognised before, with what was said of them. */
const BEFORE = ['src/formats/recognised/recognised.test.ts'];
const THIS = 'test/docs/places.test.ts';

it('a format is named in its folder, its kit, its golden folder, a line and a row', () => {
  const folders = ['src', 'test', 'docs', 'scripts', 'examples', 'bench'];
  const inside = folders.flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(?:ts|mjs|mts|json|md)$/.test(entry.name))
      .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length).replaceAll('\\', '/').replace(/^\//, '')),
  );
  const beside = ['README.md', 'CONTRIBUTING.md', 'package.json'];
  const naming = [...inside, ...beside].filter((file) => {
    return new RegExp(`\\b${FORMAT}\\b`, 'i').test(readFileSync(join(ROOT, file), 'utf8'));
  });
  expect(naming).toContain(`test/formats/${FORMAT}.ts`);
  const elsewhere = naming.filter((file) => !OWN.test(file) && ![...BEFORE, THIS].includes(file));
  expect(elsewhere.sort()).toEqual(LINES);
});
