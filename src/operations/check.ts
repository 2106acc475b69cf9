/** Consistency checks and repairs, the same for all formats with a check. */
import { checkArguments } from '../arguments.ts';
import { SOURCE } from '../disk/kinds.ts';
import { type Resolved, resolve } from '../disk/open/environment.ts';
import { type ImageFile, type ImageFileOptions, type OpenedImage, withImageFile } from '../disk/open/image-file.ts';
import { checkLocking, requireSystemLocks } from '../disk/open/locking.ts';
import { openImage } from '../disk/open/open-image.ts';
import { judgeLink, type ParentOptions } from '../disk/open/parents.ts';
import type { EnvironmentOptions, ImageSource, SharingOptions } from '../disk/options.ts';
import { ImageError, isImageError, throwIfAborted } from '../errors.ts';
import type { Format, FormatCheckOptions } from '../image/contract.ts';
import type { ImageFiles } from '../image/files.ts';
import { type Finding, summarize } from '../image/findings.ts';
import type { Source } from '../storage/contract.ts';
import { OPTIONS } from './option-kinds.ts';
import { strayParts } from './stray-parts.ts';

/** Options for a check. */
export interface CheckOptions extends EnvironmentOptions, SharingOptions {
  /** Default: probed; for an unidentified file, from the extension of its name. */
  readonly format?: string | undefined;
  /** Repair all findings that can be repaired. */
  readonly repair?: boolean | undefined;
  /** With `repair`: change nothing, only report the repairs. */
  readonly dryRun?: boolean | undefined;
  /** Called before the first change, with all findings. Throwing leaves the image unchanged. */
  readonly beforeRepair?: ((findings: readonly Finding[]) => void | Promise<void>) | undefined;
}

/** Result of a check or a repair. */
export interface CheckReport {
  readonly file: string;
  readonly format: string;
  /** No corruption and no leak; there may be warnings. */
  readonly clean: boolean;
  /** All findings; after a repair, the remaining ones. */
  readonly findings: readonly Finding[];
  /** True when the image was changed. */
  readonly repaired: boolean;
  /** Findings repaired, or with `dryRun` to be repaired. Empty without `repair`. */
  readonly repairs: readonly Finding[];
}

/**
 * Checks an image that is not open for writing elsewhere, and with `repair` fixes what can be fixed. An unreadable
 * header is a finding, too. Throws `unsupported` for formats without a check, and `locked`, `not-found`, `io`.
 */
export async function checkImage(image: ImageSource, options: CheckOptions = {}): Promise<CheckReport> {
  checkArguments('checkImage', { image: [image, SOURCE], options: [options, OPTIONS] });
  const own = await resolve(options);
  return checkIn(own.environment.sourceOf(image), own);
}

/** Like `checkImage`, in an environment. */
export async function checkIn(source: Source, options: Resolved<CheckOptions>): Promise<CheckReport> {
  const { environment } = options;
  throwIfAborted(environment.signal, 'The check');
  const writes = options.repair === true && options.dryRun !== true;
  checkLocking({ ...options, mode: writes ? 'write' : 'read' });
  // One lock for all of it: between the check and the repair no other program may write.
  const how: ImageFileOptions = { ...options, mode: 'read', lockMode: writes ? 'exclusive' : 'shared' };
  return withImageFile(source, how, async (file) => {
    const inside = writes ? null : await checkInside(file, options);
    if (inside !== null) return inside;
    if (writes && file.storage !== null) await requireSystemLocks([file.storage], options);
    const format = await formatOf(file, options);
    const report = await checkAs(format, file, options, writes);
    return { ...report, findings: [...report.findings, ...(await neighbourFindings(format, file, options))] };
  });
}

/** Checks the image inside a compressed file or an archive; null: the file is something else. */
async function checkInside(file: ImageFile, options: Resolved<CheckOptions>): Promise<CheckReport | null> {
  const { source, storage } = file;
  if (storage === null || storage.size === 0 || source.unpacked !== undefined) return null;
  if (options.format !== undefined && source.member === undefined) return null;
  const { format } = await file.probe();
  if (format.unwrap === undefined) return null;
  const { openInside } = await import('../disk/open/inside.ts');
  const { environment } = options;
  const inner = await openInside(source, storage, format, { environment, verify: true });
  file.release();
  try {
    return await checkIn(inner, options);
  } finally {
    await inner.storage.close();
  }
}

/** Warnings about other files: a parent that does not fit any more, and parts that are left over. */
async function neighbourFindings(
  { name: format }: Format,
  { source, storage }: ImageFile,
  { environment }: Resolved<CheckOptions>,
): Promise<readonly Finding[]> {
  const how = { environment, format, infoOnly: true, withoutData: true };
  try {
    // The file is open already.
    const child = await openImage(storage === null ? source : { ...source, storage }, { ...how, mode: 'read' });
    try {
      return [...linkFindings(await judge(child, how)), ...(await strayParts(child, environment))];
    } finally {
      await child.image.close();
    }
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    // The check has said why it cannot be opened.
    return [];
  }
}

function linkFindings(verdict: 'changed' | 'other' | null): readonly Finding[] {
  if (verdict === null) return [];
  const message =
    verdict === 'changed'
      ? 'The parent was modified after this image was created from it; the content may be inconsistent.'
      : 'The parent does not match: this image was created from another one.';
  const nowhere = { fileOffset: null, guestOffset: null, repairable: false };
  return [{ severity: 'warning', code: `parent-${verdict}`, message, ...nowhere }];
}

/** Compares the image with its parent, where the gate lets that be looked at. */
async function judge(child: OpenedImage, how: ParentOptions): Promise<'changed' | 'other' | null> {
  const { parentUuid, parentModificationUuid, parent } = child.image.info;
  const identities = [parentUuid, parentModificationUuid, parent?.contentId];
  // A name alone says nothing about the content.
  return identities.some((one) => typeof one === 'string') ? judgeLink(child, how) : null;
}

async function checkAs(
  format: Format,
  file: ImageFile,
  options: Resolved<CheckOptions>,
  writes: boolean,
): Promise<CheckReport> {
  const { source, files } = file;
  const { configuration } = source;
  const { signal } = options.environment;
  const how: FormatCheckOptions = { signal, config: configuration?.config };
  const findings = await runCheck(format, files, how);
  const repairs = options.repair === true ? findings.filter(({ repairable }) => repairable) : [];
  const before = { file: source.name, format: format.name };
  if (options.repair === true && format.repair === undefined) throw unsupported(format, source.name, 'repaired');
  if (!writes || repairs.length === 0) {
    return { ...before, clean: isClean(findings), findings, repaired: false, repairs };
  }
  await options.beforeRepair?.(findings);
  throwIfAborted(signal, 'The repair');
  const left = await repairAndCheck(format, file, how);
  return { ...before, clean: isClean(left), findings: left, repaired: true, repairs };
}

/** Opened for writing only now: an image that needs no repair may be read-only. The lock is already held. */
async function repairAndCheck(format: Format, file: ImageFile, how: FormatCheckOptions): Promise<readonly Finding[]> {
  const { source, key, storage } = file;
  const main = storage === null ? null : await source.provider.open(source.name, 'write');
  // Without a main file each part has a separate lock, which changes with what it is opened for.
  if (main === null) await file.files.close();
  const files = file.filesAs(main, main === null ? file.locking : null);
  try {
    if (main !== null && (await main.identity()).key !== key) throw exchanged(source.name);
    await format.repair?.(files, how);
    if (main === null) await files.close();
    return await runCheck(format, files, how);
  } finally {
    await files.close();
  }
}

function exchanged(path: string): ImageError {
  return new ImageError('busy', 'Another program replaced the image while it was being checked', {
    path,
    hint: 'Try again when no other program is renaming files in the directory.',
  });
}

function isClean(findings: readonly Finding[]): boolean {
  const { corruptions, leaks } = summarize(findings);
  return corruptions === 0 && leaks === 0;
}

async function runCheck(format: Format, files: ImageFiles, how: FormatCheckOptions): Promise<readonly Finding[]> {
  if (format.check === undefined) throw unsupported(format, files.name, 'checked');
  try {
    return await format.check(files, how);
  } catch (error) {
    if (!isImageError(error) || !HOPELESS.has(error.kind)) throw error;
    return [headerFinding(error)];
  }
}

/** Failures of a format that cannot read the file at all. */
const HOPELESS: ReadonlySet<ImageError['kind']> = new Set(['invalid-format', 'corrupt', 'limit']);

function headerFinding({ message, context }: ImageError): Finding {
  const { offset, found, expected } = context;
  const facts = [
    ...(found === undefined ? [] : [`found ${found}`]),
    ...(expected === undefined ? [] : [`expected ${expected}`]),
  ];
  return {
    severity: 'corruption',
    code: 'header',
    message: facts.length === 0 ? `${message}.` : `${message} (${facts.join(', ')}).`,
    fileOffset: offset ?? null,
    guestOffset: null,
    repairable: false,
  };
}

/** A damaged signature defeats every probe: then the file name decides. */
async function formatOf(file: ImageFile, options: Resolved<CheckOptions>): Promise<Format> {
  const { registry } = options.environment;
  const { configuration } = file.source;
  const given = options.format ?? configuration?.format;
  if (given !== undefined) {
    const format = registry.find(given);
    file.requireFitting(format);
    return format;
  }
  const named = registry.byExtension(file.source.unpacked?.name ?? file.source.name);
  const byName = named?.check === undefined ? null : named;
  try {
    const { format, guessed } = await file.probe();
    return guessed && byName !== null ? byName : format;
  } catch (error) {
    // An empty file.
    if (byName === null || !isImageError(error) || error.kind !== 'invalid-format') throw error;
    return byName;
  }
}

function unsupported(format: Format, path: string, what: string): ImageError {
  return new ImageError('unsupported', `Images of format ${format.name} cannot be ${what}`, {
    path,
    ...(what === 'repaired' ? { status: 'VERR_VD_IMAGE_REPAIR_NOT_SUPPORTED' } : {}),
    hint:
      format.fallback === true
        ? 'Raw disks have no metadata to check; if this is another format, specify it (--format).'
        : 'Use a program that knows this format.',
  });
}
