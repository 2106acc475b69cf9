/** Parts of samples: a text with a name a line, and files with nothing but guest data. */
import { Random } from '../../../src/testing/random.ts';
import { randomBytes } from '../../conformance/random.ts';
import type { Anatomy, Effect, SamplePart } from '../../hostile/descriptor.ts';

/** Nothing in it has a meaning but the bytes of the guest. */
export const NOTHING: Anatomy = { structs: [], tables: [], edges: [] };

/** Files with one part of the disk each, one behind the other, and the content of all of it. */
export function dataParts(sizes: ReadonlyMap<string, number>): { parts: SamplePart[]; content: Uint8Array } {
  const random = new Random(1);
  const data = [...sizes].map(([name, size]) => ({ name, bytes: randomBytes(random, size) }));
  const parts = data.map((part, index): SamplePart => {
    // What follows moves with the length of a part.
    return { ...part, anatomy: { ...NOTHING, edges: [512], length: index === data.length - 1 ? 'prefix' : 'free' } };
  });
  return { parts, content: Buffer.concat(data.map(({ bytes }) => bytes)) };
}

/** Each line of a text, and its end. */
export function linesOf(text: Uint8Array, length: Effect): Anatomy {
  const fields: Record<string, { offset: number; size: number }> = {};
  let offset = 0;
  for (const line of new TextDecoder().decode(text).split('\n').slice(0, -1)) {
    fields[line] = { offset, size: line.length };
    fields[`end of ${line}`] = { offset: offset + line.length, size: 1 };
    offset += line.length + 1;
  }
  const effects = Object.fromEntries(Object.keys(fields).map((name) => [name, 'free' as const]));
  const table = { size: text.length, fields };
  return { structs: [{ name: 'lines', table, offset: 0, littleEndian: true, effects }], tables: [], edges: [], length };
}
