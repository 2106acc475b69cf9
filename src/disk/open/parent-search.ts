/**
 * Search for the parent of an image by UUID. Candidates are the file named by the child and the images in its
 * directory. A candidate is the *same* when all UUIDs stored in the child match, *changed* when the parent was written
 * since, else another image. One that is the same is the parent, whatever else lies there: a backup copy, an older
 * state. Where several files are equally good, reading takes one and says so; changing anything on top of it, or in it,
 * would be a guess, and is refused.
 */
import { describeError, ImageError, printable } from '../../errors.ts';
import type { ParentIdentity } from '../../image/contract.ts';
import { judgeParent, type ParentVerdict, parentNames } from '../../image/parent.ts';
import type { Source } from '../../storage/contract.ts';
import { isPlainName } from '../../storage/gate.ts';
import type { DiskOpenOptions } from '../options.ts';
import { boundsBeside, ImagesBeside, knownImages, type SearchExtent } from './beside.ts';
import { type Resolved, settingsOf } from './environment.ts';
import { type OpenedImage, withImageFile } from './image-file.ts';

/** A possible parent. */
interface Candidate {
  readonly name: string;
  readonly key: string;
  readonly info: ParentIdentity;
}

/** The images of one directory, read once for all images of a chain in it. */
interface Directory extends SearchExtent {
  readonly candidates: readonly Candidate[];
}

/** A child that stores the UUID of its parent, and the images above it. */
export interface Orphan {
  readonly child: OpenedImage;
  readonly uuid: string;
  /** The child and all images above it: none of them can be the parent. */
  readonly opened: readonly OpenedImage[];
}

/** A parent, with a doubt about it if any. */
export interface FoundParent {
  readonly parent: OpenedImage;
  readonly doubt: ImageError | null;
}

/** Names listed in a message. */
const LISTED = 10;

/** Finds the parents of the images of one chain. */
export class ParentSearch {
  readonly #options: Resolved<DiskOpenOptions>;
  readonly #directories = new Map<string, Directory>();

  constructor(options: Resolved<DiskOpenOptions>) {
    this.#options = options;
  }

  /** Opens the parent. Throws `not-found`, `denied`, `corrupt` when it is an image above. */
  async find(orphan: Orphan): Promise<FoundParent> {
    const { child, opened } = orphan;
    const own = new Set(opened.map(({ key }) => key));
    const named = await this.#named(child);
    const right = named.find(({ key, info }) => judgeCandidate(child, info) === 'same' && !own.has(key));
    if (right !== undefined) return { parent: await this.#open(right, orphan), doubt: null };
    const around = await this.#around(child, opened);
    const { candidates, complete } = around;
    const all = [...named.filter((one) => !candidates.some(({ key }) => key === one.key)), ...candidates];
    const fitting = all.filter(({ info }) => judgeCandidate(child, info) !== 'other');
    const possible = fitting.filter(({ key }) => !own.has(key));
    const same = possible.filter(({ info }) => judgeCandidate(child, info) === 'same');
    const best = distinct(same.length > 0 ? same : possible);
    const [taken] = best;
    if (taken === undefined) throw notFound(orphan, fitting.length > 0, around, named);
    const certain = best.length === 1 && (same.length > 0 || complete);
    return { parent: await this.#open(taken, orphan), doubt: certain ? null : doubtOf(orphan, best, around) };
  }

  /** Images that the child names as its parent, in its order, as far as they may be opened. */
  async #named(child: OpenedImage): Promise<Candidate[]> {
    const found: Candidate[] = [];
    for (const name of parentNames(child.image.info).filter(isPlainName)) {
      const candidate = await this.#look(child).lookAt(child.source.provider.resolve(name, child.name));
      if (candidate !== null) found.push(candidate);
    }
    return found;
  }

  async #around(child: OpenedImage, opened: readonly OpenedImage[]): Promise<Directory> {
    const directory = child.source.provider.directory(child.name);
    const known = this.#directories.get(directory);
    if (known !== undefined) return known;
    const images = this.#look(child, opened);
    const candidates: Candidate[] = [];
    for await (const { name, key, info } of images) {
      const { uuid, modificationUuid, contentId } = info;
      candidates.push({ name, key, info: { uuid, modificationUuid, contentId } });
    }
    // The order of a directory is an accident; what is taken must not be one.
    candidates.sort((a, b) => (a.name < b.name ? -1 : 1));
    const { complete, obstacle } = images;
    const found = { candidates, complete, obstacle };
    this.#directories.set(directory, found);
    return found;
  }

  #look({ source, gate }: OpenedImage, opened: readonly OpenedImage[] = []): ImagesBeside {
    const known = knownImages(opened);
    return new ImagesBeside({
      from: source,
      gate,
      role: 'parent image',
      environment: this.#options.environment,
      known,
    });
  }

  async #open({ name }: Candidate, orphan: Orphan): Promise<OpenedImage> {
    const found = await openCandidate(name, orphan, this.#options);
    // Another program put something else into its place since it was looked at.
    if (found === null) throw notFound(orphan, false, { complete: true }, []);
    return found;
  }
}

/** Verdict about one of several images: it must have every identity that the child stores. */
function judgeCandidate({ image }: OpenedImage, found: ParentIdentity): ParentVerdict {
  return judgeParent(image, found, { requireStored: true });
}

/** Names of one file count as one candidate. */
function distinct(candidates: readonly Candidate[]): Candidate[] {
  return candidates.filter(({ key }, at) => candidates.findIndex((other) => other.key === key) === at);
}

function notFound(
  { child, uuid }: Orphan,
  own: boolean,
  extent: SearchExtent,
  named: readonly Candidate[],
): ImageError {
  const [other] = named;
  // What is there under the name of the parent was put into its place.
  if (!own && other !== undefined) {
    return new ImageError('corrupt', 'The parent does not match: this image was created from another one', {
      status: 'VERR_VD_UUID_MISMATCH',
      path: child.name,
      field: 'parent UUID',
      found: `${other.info.uuid ?? 'none'} (${printable(other.name)})`,
      expected: uuid,
      hint: 'Specify the right parent with --parent.',
    });
  }
  const message = own ? 'The image is its own parent' : 'The parent of this image was not found in its directory';
  const { parentName } = child.image.info;
  return new ImageError(own ? 'corrupt' : 'not-found', message, {
    path: child.name,
    field: 'parent UUID',
    expected: uuid,
    ...(parentName === null ? {} : { found: `the name ${printable(parentName)}` }),
    hint: extent.complete ? 'Name the parent with --parent.' : `Name the parent with --parent: ${shortfall(extent)}.`,
  });
}

/** Reason why an incomplete search missed files. */
function shortfall({ obstacle }: SearchExtent): string {
  if (obstacle === undefined) return `only ${boundsBeside()} beside the image were looked at`;
  return `the files beside the image cannot be searched (${describeError(obstacle)})`;
}

function doubtOf({ child, uuid, opened }: Orphan, best: readonly Candidate[], extent: SearchExtent): ImageError {
  const names = best.slice(0, LISTED).map(({ name }) => printable(name));
  const more = best.length > LISTED ? ` and ${best.length - LISTED} more` : '';
  const { parentModificationUuid } = child.image.info;
  const several = best.length > 1;
  const option = opened.length === 1 ? 'parent; on the command line: --parent' : 'the list of images; --chain';
  const message = several
    ? 'Several files match as the parent of this image'
    : extent.obstacle === undefined
      ? 'The directory contains too many files to identify the parent of this image'
      : 'The directory of this image cannot be searched for its parent';
  return new ImageError('invalid-argument', message, {
    path: child.name,
    field: 'parent UUID',
    found: `${names.join(', ')}${more}${extent.complete ? '' : `; ${shortfall(extent)}`}`,
    expected: `one file with ${uuid}${parentModificationUuid === null ? '' : ` and content ${parentModificationUuid}`}`,
    hint: `Specify the right one (${option}), or move the others elsewhere.`,
  });
}

/** Opens a file with the UUID; null when it has been replaced in the meantime. Errors are reported now. */
async function openCandidate(
  name: string,
  { child }: Orphan,
  options: Resolved<DiskOpenOptions>,
): Promise<OpenedImage | null> {
  const namedBy = { gate: child.gate, from: child.source, role: 'parent image' };
  const source: Source = { provider: child.source.provider, name };
  return withImageFile(source, { ...options, mode: 'read', namedBy }, async (file) => {
    const { guessed, format, answer } = await file.probe();
    if (guessed || !format.capabilities.read) return null;
    const chosen = { format, recognisedBy: answer.reason, guessed, warnings: [] };
    const found = await file.open(chosen, { settings: settingsOf(options) });
    if (judgeCandidate(child, found.image.info) !== 'other') return found;
    await found.image.close();
    return null;
  });
}
