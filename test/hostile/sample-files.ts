/** The files of a sample, as they lie beside each other, and a format's check and repair of them. */
import type { Format } from '../../src/image/contract.ts';
import { OpenedFiles } from '../../src/image/files.ts';
import type { Finding } from '../../src/image/findings.ts';
import type { OpenMode, Source } from '../../src/storage/contract.ts';
import { denyAll, withOwnParts } from '../../src/storage/gate.ts';
import type { Sample, SampleFile } from './descriptor.ts';
import type { Mutation } from './mutations.ts';
import { applyEdits } from './pieces.ts';

type Change = Pick<Mutation, 'file' | 'edits' | 'size'>;

/** The files of the image itself, the main one first, when it is called `name`; one of them may be changed. */
export function ownFiles({ bytes, parts = [] }: Sample, name: string, change?: Change): SampleFile[] {
  const changed = (file: string | null, sound: Uint8Array): Uint8Array =>
    change === undefined || change.file !== file ? sound : applyEdits(sound, change.edits, change.size);
  const home = bytes === null ? name : directoryOf(name);
  return [
    ...(bytes === null ? [] : [{ name, bytes: changed(null, bytes) }]),
    ...parts.map((part) => ({ name: `${home}/${part.name}`, bytes: changed(part.name, part.bytes) })),
  ];
}

/** Directories of an image that is one: it and those in it, each before those inside it. */
export function directoriesOf({ bytes, parts = [] }: Sample, name: string): readonly string[] {
  if (bytes !== null) return [];
  const inside = parts.filter((part) => part.name.includes('/')).map((part) => directoryOf(`${name}/${part.name}`));
  return [name, ...new Set(inside)];
}

/** Those, and what lies beside the image. */
export function filesOf(sample: Sample, name: string, change?: Change): SampleFile[] {
  const beside = sample.beside.map((file) => ({ ...file, name: `${directoryOf(name)}/${file.name}` }));
  return [...ownFiles(sample, name, change), ...beside];
}

function directoryOf(name: string): string {
  return name.slice(0, name.lastIndexOf('/'));
}

/** The main file of an image that has one. */
export function mainOf({ name, bytes }: Sample): Uint8Array {
  if (bytes === null) throw new Error(`${name} is a directory`);
  return bytes;
}

/** Runs the check of a format; without one it finds nothing. The image may be a directory, and open its own parts. */
export function checkFiles(format: Format, source: Source): Promise<readonly Finding[]> {
  return withFiles(source, 'read', async (files) => (await format.check?.(files, {})) ?? []);
}

/** Runs the repair of a format in the same way. */
export function repairFiles(format: Format, source: Source): Promise<readonly Finding[]> {
  return withFiles(source, 'write', async (files) => (await format.repair?.(files, {})) ?? []);
}

async function withFiles<T>(source: Source, mode: OpenMode, use: (files: OpenedFiles) => Promise<T>): Promise<T> {
  const { provider, name } = source;
  const isDirectory = (await provider.lookUp(name))?.kind === 'directory';
  const main = isDirectory ? null : await provider.open(name, mode);
  const own = async () => ({ provider, name: await provider.realName(name), isDirectory });
  const files = new OpenedFiles({ source, main, isDirectory, gate: withOwnParts(denyAll(), own) });
  try {
    return await use(files);
  } finally {
    await files.close();
  }
}
