/**
 * Does everything with one file that a stranger's file may meet: looks at it, reads it, writes to it, checks it. Whatever
 * is thrown must be an `ImageError`, whatever is read must be right, and nothing else may be opened.
 */

import type { DiskOpenOptions } from '../../src/disk/options.ts';
import type { Finding } from '../../src/image/findings.ts';
import { inspect } from '../../src/operations/inspect.ts';
import { openDisk } from '../../src/operations/open.ts';
import { withToys } from '../formats/toys/registry.ts';
import { changeAll } from './examine-change.ts';
import { checkImage, newCorruptions, repairImage } from './examine-check.ts';
import { type Digests, readThrough } from './examine-read.ts';
import { writeOnce } from './examine-write.ts';
import { Notes } from './notes.ts';
import type { BaseFile, BaseImage, HostileCase } from './protocol.ts';
import { checkFiles } from './sample-files.ts';
import { WatchedProvider } from './watched-provider.ts';

const DIRECTORY = '/box';
/** Among the names that may be opened: whatever is there, for reading. A name in the image may have become any other. */
const BELOW = `${DIRECTORY}/*`;
/** Nothing leads here by right. */
const SECRET = '/secret/other.raw';
const REGISTRY = withToys();
const ALLOWED = { registry: REGISTRY, allow: ['same-directory'] } as const;

/** Tries one file. */
export async function examine(work: HostileCase, base: BaseImage): Promise<Notes> {
  const notes = new Notes();
  const name = `${DIRECTORY}/image.${work.format}`;
  const beside = base.beside.map((file) => `${DIRECTORY}/${file.name}`);
  const own = ownNames(name, base);
  const written = [...own, ...own.map((one) => `+${one}`), BELOW];

  // Nothing allowed, the format found by probing: what a service does with an upload.
  await inBox(work, base, notes, own, async (provider) => {
    await examineReading({
      work,
      base,
      notes,
      source: { provider, name },
      title: 'probed',
      options: { registry: REGISTRY },
    });
  });
  // The format named, its directory allowed: what a person does at home.
  let before: Digests | undefined;
  const named = { format: work.format, ...ALLOWED };
  await inBox(work, base, notes, [...own, BELOW], async (provider) => {
    before = await examineReading({ work, base, notes, source: { provider, name }, title: 'named', options: named });
  });
  const format = REGISTRY.find(work.format);
  let checked: readonly Finding[] | undefined;
  await inBox(work, base, notes, [...own, ...beside], async (provider) => {
    checked = await checkImage({ notes, source: { provider, name }, format });
  });
  await inBox(work, base, notes, written, async (provider) => {
    const source = { provider, name };
    const isWritten = await writeOnce({ notes, source, options: named, before });
    if (!isWritten || checked === undefined || format.check === undefined) return;
    const worse = newCorruptions(checked, await checkFiles(format, source));
    if (worse.length > 0) notes.finding(`after a write a check finds ${worse.join(', ')}`);
  });
  await inBox(work, base, notes, written, async (provider) => {
    const source = { provider, name };
    if (before === undefined || notes.steps.includes('write open:read-only')) return;
    const changed = await changeAll({ notes, source, options: named, before });
    if (!changed || checked === undefined || format.check === undefined) return;
    const worse = newCorruptions(checked, await checkFiles(format, source));
    if (worse.length > 0) notes.finding(`after changes of the whole a check finds ${worse.join(', ')}`);
  });
  await inBox(work, base, notes, written, async (provider) => {
    const source = { provider, name };
    await repairImage({ notes, source, format });
    // Where nothing that matters is wrong, nothing that matters may change.
    if (work.expect.opens) await examineReading({ work, base, notes, source, title: 'repaired', options: named });
  });
  return notes;
}

/** Names that the image may open by right, its own first; one with a star stands for all that begin so. */
function ownNames(name: string, { image, parts = [] }: BaseImage): string[] {
  if (image === null) return [name, `${name}/*`];
  // Segments have the name of the image, and their number.
  return [name, parts.length === 0 ? `${DIRECTORY}/image.0*` : `${DIRECTORY}/image*`];
}

function isMeant(permitted: string, opened: string): boolean {
  return permitted.endsWith('*') ? opened.startsWith(permitted.slice(0, -1)) : opened === permitted;
}

/** One step with private files. Afterwards only `names` may have been opened, and everything is closed. */
async function inBox(
  work: HostileCase,
  base: BaseImage,
  notes: Notes,
  names: readonly string[],
  run: (provider: WatchedProvider) => Promise<void>,
): Promise<void> {
  const provider = new WatchedProvider();
  const { file: target = null, edits, size } = work;
  const [name = ''] = names;
  const add = (place: string, file: BaseFile, isTarget: boolean): Promise<void> =>
    isTarget ? provider.add(place, file, edits, size) : provider.add(place, file);
  if (base.image !== null) await add(name, base.image, target === null);
  const home = base.image === null ? name : DIRECTORY;
  for (const part of base.parts ?? []) await add(`${home}/${part.name}`, part, target === part.name);
  for (const file of base.beside) await provider.add(`${DIRECTORY}/${file.name}`, file);
  await provider.add(SECRET, { name: SECRET, size: 4096, pieces: [] });
  await run(provider);
  for (const opened of new Set(provider.opened)) {
    if (names.some((one) => isMeant(one, opened))) continue;
    notes.finding(`opened ${opened}, which was not allowed`);
  }
  for (const changed of provider.changedNames) notes.finding(`made, renamed or removed ${changed}`);
  if (provider.stillOpen !== 0) notes.finding(`left ${provider.stillOpen} files open`);
}

interface Reading {
  readonly work: HostileCase;
  readonly base: BaseImage;
  readonly notes: Notes;
  readonly source: { readonly provider: WatchedProvider; readonly name: string };
  readonly title: string;
  readonly options: DiskOpenOptions;
}

async function examineReading(reading: Reading): Promise<Digests | undefined> {
  const { work, base, notes, source, title, options } = reading;
  // A differencing image is denied its parents where nothing is allowed.
  const mustOpen = work.expect.opens && !(base.differencing && options.allow === undefined);
  const report = await notes.step(`${title} info`, () => inspect(source, options));
  if (work.expect.opens && report === undefined)
    notes.finding(`${title}: the image was refused: ${notes.steps.at(-1)}`);
  const disk = await notes.step(`${title} open`, () => openDisk(source, options));
  if (disk === undefined) {
    if (mustOpen) notes.finding(`${title}: the disk was refused: ${notes.steps.at(-1)}`);
    return undefined;
  }
  const isFormat = disk.images.at(-1)?.format === work.format;
  if (isFormat && report !== undefined && report.virtualSize !== disk.size) {
    notes.finding(`${title}: info says ${report.virtualSize} bytes, the disk has ${disk.size}`);
  }
  const content = isFormat ? base.content : null;
  const digests = await readThrough({ disk, notes, title, content, expect: work.expect, mustRead: mustOpen });
  await notes.step(`${title} close`, () => disk.close());
  return digests;
}
