/** Checking and repairing a copy, for formats that can. */
import type { Format } from '../../src/image/contract.ts';
import type { Finding } from '../../src/image/findings.ts';
import type { Notes } from './notes.ts';
import { checkFiles, repairFiles } from './sample-files.ts';
import type { WatchedProvider } from './watched-provider.ts';

export interface CheckImage {
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly format: Format;
}

/** More findings than this of one file are not kept in memory by any program. */
const FINDINGS = 20_000;

/** Checks without changing anything. Undefined when the format has no check, or the file is not an image of it. */
export async function checkImage({ notes, source, format }: CheckImage): Promise<readonly Finding[] | undefined> {
  if (!format.capabilities.check) return undefined;
  const found = await notes.step('check', async () => {
    if (format.check === undefined) throw new Error('the format says that it can check, and cannot');
    return checkFiles(format, source);
  });
  if (source.provider.opened.some((name) => name.startsWith('+'))) notes.finding('a check opened a file for writing');
  if ((found?.length ?? 0) > FINDINGS) notes.finding(`a check found ${found?.length} things`);
  return found;
}

/** Repairs, and looks whether that helped: nothing that can be repaired is left. */
export async function repairImage({ notes, source, format }: CheckImage): Promise<void> {
  if (!format.capabilities.repair) return;
  const repaired = await notes.step('repair', async () => {
    if (format.repair === undefined) throw new Error('the format says that it can repair, and cannot');
    return repairFiles(format, source);
  });
  if (repaired === undefined || format.check === undefined) return;
  const left = await notes.step('check again', () => checkFiles(format, source));
  if (left === undefined) return notes.finding('the image cannot be checked any more after a repair');
  const still = left.filter((one) => one.repairable).map(({ code }) => code);
  if (still.length > 0) notes.finding(`after a repair there is still ${[...new Set(still)].join(', ')}`);
}

/** Kinds of corruption that are new in the second check. */
export function newCorruptions(before: readonly Finding[], after: readonly Finding[]): string[] {
  const known = new Set(before.map(({ code }) => code));
  const bad = after.filter(({ severity, code }) => severity === 'corruption' && !known.has(code));
  return [...new Set(bad.map(({ code }) => code))];
}
