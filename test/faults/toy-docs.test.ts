/** The example in docs/crash-testing.md is the toy format and its test, with the names of the package. */
import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const text = (path: string): string => readFileSync(new URL(path, import.meta.url), 'utf8');

it.each(['toy.ts', 'toy.test.ts'])('the document shows %s as it is', (name) => {
  const published = text(name)
    .replaceAll('../../src/index.ts', 'vdkit')
    .replaceAll('../../src/storage/index.ts', 'vdkit/storage')
    .replaceAll('../../src/testing/index.ts', 'vdkit/testing');
  expect(text('../../docs/crash-testing.md')).toContain(`\`\`\`ts\n// ${name}\n${published.trimEnd()}\n\`\`\``);
});
