/** Opening one image: probing, and the options that stay with it. */
import { throwIfAborted } from '../../errors.ts';
import type { Format, Image } from '../../image/contract.ts';
import type { ProbeOutcome } from '../../image/probe.ts';
import type { OpenMode, Source } from '../../storage/contract.ts';
import type { ImageSettings, SharingOptions } from '../options.ts';
import type { Environment } from './environment.ts';
import { checkFormatConfig } from './format-options.ts';
import { refuseHalfConverted } from './half-converted.ts';
import {
  type ChosenFormat,
  type ImageFile,
  type ImageFileOptions,
  type ListedIn,
  type OpenedImage,
  withImageFile,
} from './image-file.ts';

/** The disk is read once, in ascending order: what is unpacked need not be stored, where its length can be told. */
export interface UnwrapOnce {
  /** Set when the file was not what it said: the disk must be opened again without this. */
  surprised: boolean;
}

/** Options for opening one image. */
export interface OpenImageOptions extends SharingOptions {
  readonly environment: Environment;
  readonly mode: OpenMode;
  readonly format?: string | undefined;
  /** Options that stay with the image. Their `mode` is the one for its time as last image, `mode` the current one. */
  readonly settings?: ImageSettings | undefined;
  /** Headers only, without a lock: for reports. */
  readonly infoOnly?: boolean | undefined;
  /** See {@link FormatOpenOptions.withoutData}. */
  readonly withoutData?: boolean | undefined;
  /** Permit an image whose conversion by filters was interrupted. */
  readonly resumeFilters?: boolean | undefined;
  /** Look for the image inside of a compressed file or an archive. Default false. Never for writing. */
  readonly unwrap?: boolean | UnwrapOnce | undefined;
  /** See {@link ImageFileOptions.owned}. */
  readonly owned?: boolean | undefined;
  /** See {@link ImageFileOptions.onOpen}. */
  readonly onOpen?: ImageFileOptions['onOpen'] | undefined;
}

/** Opens one image: in the named format, otherwise by the strongest probe. */
export async function openImage(source: Source, options: OpenImageOptions): Promise<OpenedImage> {
  throwIfAborted(options.environment.signal, 'Opening');
  const { withoutData } = options;
  const { configuration } = source;
  const settings = settingsWith(options.settings, configuration?.config);
  const format = options.format ?? configuration?.format;
  const named = format === undefined ? null : options.environment.registry.find(format);
  const shareable = settings.shareable ?? options.shareable ?? false;
  return withImageFile(source, { ...options, shareable }, async (file) => {
    const outer = looksInside(source, options) ? await file.probe() : null;
    if (outer?.format.unwrap !== undefined) {
      // A page that looks at one image loads none of it.
      return (await import('./inside.ts')).openInner(file, outer.format, options, openImage);
    }
    if (source.member !== undefined && file.storage !== null && source.unpacked === undefined) {
      throw (await refusals()).noArchive(source.name, options.mode === 'write');
    }
    const chosen = outer === null || named !== null ? await chooseFormat(file, named) : chosenBy(outer);
    checkFormatConfig(chosen.format, settings.config ?? {}, 'open');
    if (chosen.guessed && options.mode === 'write') {
      throw (await refusals()).guessedForWriting(source.name);
    }
    const isSure = options.infoOnly === true || options.resumeFilters === true || configuration !== undefined;
    if (!isSure) await refuseHalfConverted(file.source);
    const list = options.infoOnly === true ? undefined : await listOf(file, chosen.format, options);
    const image = await file.open(chosen, { settings, withoutData });
    const opened = list === undefined ? image : { ...image, listedIn: list };
    const { snapshots } = opened.image.info;
    if (settings.snapshot !== undefined && snapshots === undefined) await refuseSnapshot(opened.image, source.name);
    return opened;
  });
}

/** The directory that lists the file. Throws `denied` where it would be written by itself. */
async function listOf(file: ImageFile, format: Format, options: OpenImageOptions): Promise<ListedIn | undefined> {
  if (format.extendDirectory === undefined) return undefined;
  // A page that looks at one image loads none of it.
  const { listedIn, refuseListed } = await import('./listed-file.ts');
  const list = await listedIn(file, format, options.environment, openList);
  if (list !== undefined && options.mode === 'write') refuseListed(file.source.name, list);
  return list;
}

/** Opens a directory for its list of images. */
export function openList(directory: Source, environment: Environment): Promise<OpenedImage> {
  return openImage(directory, { environment, mode: 'read', infoOnly: true, withoutData: true });
}

/** The config values that locate an image, with those given for opening it. */
function settingsWith(settings: ImageSettings = {}, config: ImageSettings['config']): ImageSettings {
  return config === undefined ? settings : { ...settings, config: { ...config, ...settings.config } };
}

/** Throws rather than read the current state instead of a snapshot. */
async function refuseSnapshot(image: Image, path: string): Promise<never> {
  await image.close();
  throw (await refusals()).noSnapshots(image.info.format, path);
}

async function chooseFormat(file: ImageFile, named: Format | null): Promise<ChosenFormat> {
  const { name } = file.source;
  if (named === null) return chosenBy(await file.probe());
  file.requireFitting(named);
  if (!named.capabilities.sequential && file.storage?.can.random === false) {
    throw (await refusals()).notForStreams(named.name, name);
  }
  return { format: named, recognisedBy: 'the caller named it', warnings: [], guessed: false };
}

function chosenBy({ format, answer, warnings, guessed }: ProbeOutcome): ChosenFormat {
  return { format, recognisedBy: answer.reason, warnings, guessed };
}

/** With a member the format that was named is that of the image inside. */
function looksInside({ member, configuration, unpacked }: Source, { unwrap, mode, format }: OpenImageOptions): boolean {
  if (!unwrap || mode === 'write' || configuration !== undefined || unpacked !== undefined) return false;
  return format === undefined || member !== undefined;
}

/** Errors that few openings need. */
function refusals(): Promise<typeof import('./refusals.ts')> {
  return import('./refusals.ts');
}
