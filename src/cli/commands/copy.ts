/**
 * `vdkit copy`: copies a chain image by image, or moves an image.
 */
import { basename, extname, join } from 'node:path';
import { defaultProvider } from '#local-storage';
import type { DiskImage } from '../../disk/disk.ts';
import { printable } from '../../errors.ts';
import { type CopiedImage, copyChain, moveImage } from '../../operations/copy.ts';
import { copyDirectory } from '../../operations/directories.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT, UsageError } from '../failure.ts';
import { holeOptions, imageName, namedFormat, openOptions, placedImage } from '../images.ts';
import { present } from '../options.ts';
import { registryOf } from '../registry.ts';

/** Runs `copy IMAGE TARGET`. */
export async function run(context: CommandContext): Promise<number> {
  const image = imageName(context, 0);
  const target = imageName(context, 1);
  const format = namedFormat(context, 'to', registryOf(context))?.name;
  const directory = (await isDirectory(target)) || /[/\\]$/.test(target);
  refuseInside(context, directory);
  return context.options.flag('move')
    ? move(context, image, directory ? join(target, renamed(context, image, format)) : target, format)
    : copy(context, { target, directory, format });
}

interface Wanted {
  readonly target: string;
  readonly directory: boolean;
  readonly format: string | undefined;
}

async function copy(context: CommandContext, { target, directory, format }: Wanted): Promise<number> {
  const copied = await copies(context, { target, directory, format });
  context.progress.finish(true);
  for (const { warnings } of copied) for (const warning of warnings) context.warn(warning);
  if (context.json) await context.printJson({ schema: 'vdkit/copy/1', images: copied });
  else for (const { from, to } of copied) context.note(printable(`${from} copied to ${to}`));
  return EXIT.done;
}

async function copies(context: CommandContext, wanted: Wanted): Promise<CopiedImage[]> {
  await using place = await placedImage(context, 0, 'read');
  await using disk = await openDisk(place.source, openOptions(context));
  for (const warning of disk.warnings) context.warn(warning);
  const inDirectory = disk.images.at(-1)?.info.parent?.member !== undefined;
  if (inDirectory && wanted.format === undefined) {
    await disk.close();
    return [await copyWhole(context, wanted)];
  }
  if (!wanted.directory && disk.images.length > 1) {
    throw new UsageError('A chain of several images can only be copied to a directory', 'Name an existing directory.');
  }
  context.afterCancel = 'no copy was left behind';
  const names = wanted.directory
    ? distinct(disk.images.map((image) => renamed(context, fileNameOf(image), wanted.format)))
    : [wanted.target];
  const nameOf = (_: string, number: number): string =>
    wanted.directory ? join(wanted.target, names[number] ?? '') : wanted.target;
  return await copyChain(disk, nameOf, {
    allow: context.allow,
    signal: context.signal,
    force: context.options.flag('force'),
    verify: context.options.flag('verify'),
    onProgress: context.progress.report,
    ...holeOptions(context),
    ...present({ format: wanted.format }),
  });
}

/** Images that lie in one directory are copied with it. */
async function copyWhole(context: CommandContext, { target, directory }: Wanted): Promise<CopiedImage> {
  const image = imageName(context, 0);
  const to = directory ? join(target, renamed(context, image, undefined)) : target;
  context.afterCancel = 'no copy was left behind';
  const how = { allow: context.allow, signal: context.signal, force: context.options.flag('force') };
  return { ...(await copyDirectory(image, to, how)), warnings: [] };
}

/** The file name of an image; that of the innermost file for one in a compressed file or an archive. */
function fileNameOf({ name, wrappings }: DiskImage): string {
  return wrappings.at(-1)?.member.split(/[/\\]/).at(-1) ?? basename(name);
}

/** An image inside another file cannot be moved, and a copy in a directory has no file name to take over. */
function refuseInside({ options }: CommandContext, directory: boolean): void {
  const given = ['offset', 'partition', 'member'].find((name) => options.text(name) !== undefined);
  if (given === undefined) return;
  if (directory && given !== 'member')
    throw new UsageError(`An image selected by --${given} has no file name to keep`, 'Name a file as TARGET.');
  if (!options.flag('move')) return;
  throw new UsageError(`--move moves whole files, so --${given} cannot be used`, 'Remove --move to copy the image.');
}

async function move(context: CommandContext, image: string, target: string, to: string | undefined): Promise<number> {
  context.afterCancel = `${printable(image)} was not moved`;
  const result = await moveImage(image, target, {
    ...openOptions(context),
    force: context.options.flag('force'),
    onProgress: context.progress.report,
    ...present({ to }),
  });
  context.progress.finish(true);
  for (const warning of result.warnings) context.warn(warning);
  if (context.json) {
    await context.printJson({ schema: 'vdkit/copy/1', images: [{ ...result, written: null }] });
  } else {
    context.note(printable(`${image} moved to ${target}`));
  }
  return EXIT.done;
}

/** The file's own name, with the extension of the new format. */
function renamed(context: CommandContext, name: string, format: string | undefined): string {
  const own = basename(name);
  if (format === undefined) return own;
  const extension = registryOf(context).find(format).extensions[0]?.extension;
  return extension === undefined ? own : `${own.slice(0, own.length - extname(own).length)}.${extension}`;
}

/** Names of one directory: the last image keeps its own, and images below it get a number where theirs is taken. */
function distinct(names: readonly string[]): readonly string[] {
  const taken = new Set<string>();
  const found: string[] = [];
  for (const name of [...names].reverse()) {
    const extension = extname(name);
    let free = name;
    for (let count = 1; taken.has(free); count++) {
      free = `${name.slice(0, name.length - extension.length)}-${count}${extension}`;
    }
    taken.add(free);
    found.unshift(free);
  }
  return found;
}

async function isDirectory(name: string): Promise<boolean> {
  try {
    return (await defaultProvider().lookUp(name))?.kind === 'directory';
  } catch {
    return false;
  }
}
