/** The suite itself: hangs, crashes and excessive memory use are detected without affecting other cases. */
import { fileURLToPath } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { Pool } from './pool.ts';
import { type BaseImage, BOUNDS, type HostileCase } from './protocol.ts';

const BASE: BaseImage = {
  name: 'x',
  image: { name: 'x', size: 0, pieces: [] },
  beside: [],
  content: null,
  differencing: false,
};
const script = fileURLToPath(new URL('misbehave.mjs', import.meta.url));
const pool = new Pool({ script, children: 2, batch: 2, milliseconds: 450 });
/** Waits less long for an answer. */
const impatient = new Pool({ script, children: 1, batch: 2, milliseconds: 60 });
afterAll(() => Promise.all([pool.close(), impatient.close()]));

it('tells what went wrong with which case', { timeout: 60_000 }, async () => {
  const titles = ['fine', 'end', 'fine', 'heap', 'bytes', 'slow', 'finding', 'fine'];
  const found: [string, string][] = [];
  const hanging = ['fine', 'hang', 'fine'];
  for (const [one, cases] of [
    [pool, titles],
    [impatient, hanging],
  ] as const) {
    one.addBase(BASE);
    await one.run(cases.map(caseOf), ({ work, findings }) => found.push([work.title, findings.join()]));
  }
  expect(found.map(([title]) => title).sort()).toEqual([...titles, ...hanging].sort());
  const texts: Record<string, RegExp> = {
    fine: /^$/,
    hang: /^no answer within/,
    end: /^the process ended \(exit 3\)/,
    heap: /^the process ended/,
    bytes: /^took \d+ MiB of memory$/,
    slow: /^took 1000000 ms$/,
    finding: /^something is wrong$/,
  };
  for (const [title, text] of found) expect(text, title).toMatch(texts[title] ?? /never/);
});

it('takes the memory of the tests for none of a child', { timeout: 60_000 }, async () => {
  const large = new Uint8Array(BOUNDS.bytes).fill(1);
  const separate = new Pool({ script, children: 1 });
  const found: string[] = [];
  separate.addBase(BASE);
  await separate.run(['fine', 'fine'].map(caseOf), ({ findings }) => found.push(findings.join()));
  await separate.close();
  expect([large.at(-1), ...found]).toEqual([1, '', '']);
});

function caseOf(title: string): HostileCase {
  const expectation = { opens: false, unchanged: [], sameSize: false };
  return { title, base: 'x', format: 'vdi', edits: [], size: 0, expect: expectation };
}
