/** Checking and repairing a copy, for formats that say that they can. */
import type { Notes } from './notes.ts';
import type { WatchedProvider } from './watched-provider.ts';

export interface CheckImage {
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly format: string;
}

/** No format can check yet. The first one that can makes this a finding, so that it is not forgotten. */
export async function checkImage({ notes, format }: CheckImage): Promise<void> {
  notes.finding(`${format} can check or repair, but the hostile suite does not do it: write test/hostile/examine-check.ts`);
}
