/**
 * The images in a directory, by their headers: opened through the gate, without a lock. Files without the signature of
 * an image are skipped; both counts are bounded, since anyone may fill a directory.
 */
import { describeError, ImageError, isImageError, throwIfAborted } from '../../errors.ts';
import type { Image, ImageInfo } from '../../image/contract.ts';
import { LIMITS } from '../../limits.ts';
import { someAtATime } from '../../storage/all-done.ts';
import type { Source } from '../../storage/contract.ts';
import type { OpenGate } from '../../storage/gate.ts';
import type { ChainImage } from '../path/chain.ts';
import type { Environment } from './environment.ts';
import { type ChosenFormat, type ImageFile, type ImageFileOptions, withImageFile } from './image-file.ts';
import { storedNames } from './parts.ts';

/** An image in the same directory. */
export interface ImageBeside {
  readonly name: string;
  readonly key: string;
  readonly info: ImageInfo;
  /** All names of other files that it stores. */
  readonly named: readonly string[];
}

/** The place to look in, and the object of the search. */
export interface LookBeside {
  readonly from: Source;
  readonly gate: OpenGate;
  /** Role for messages of the gate: `parent image`. */
  readonly role: string;
  readonly environment: Environment;
  /** Images that are open already, by name: they are not opened again. Null: passed over. */
  readonly known?: ReadonlyMap<string, ImageBeside | null>;
}

/** Images of a chain, as a look beside one of them finds them. */
export function knownImages(images: readonly ChainImage[]): ReadonlyMap<string, ImageBeside> {
  return new Map(images.map(({ name, key, image }) => [name, { name, key, info: image.info, named: namesIn(image) }]));
}

function namesIn(image: Image): string[] {
  return storedNames(image).map(({ stored }) => stored);
}

/** Extent of a search. */
export interface SearchExtent {
  /** False when images may have been missed. */
  readonly complete: boolean;
  /** The failure that ended the search or hid a file from it; absent when a limit was reached. */
  readonly obstacle?: ImageError | undefined;
}

/** Files that are looked at together. */
const LOOKS = 8;
/** An image that is not looked at, or cannot be. It counts for the limit. */
const UNREADABLE = 'unreadable';
/** Null: not an image. */
type Found = ImageBeside | typeof UNREADABLE | null;

/** Search of an image's directory. A directory that cannot be listed makes the search incomplete. */
export class ImagesBeside implements AsyncIterable<ImageBeside>, SearchExtent {
  readonly #look: LookBeside;
  #complete = true;
  #obstacle: ImageError | undefined;

  constructor(look: LookBeside) {
    this.#look = look;
  }

  get complete(): boolean {
    return this.#complete && this.#obstacle === undefined;
  }

  get obstacle(): ImageError | undefined {
    return this.#obstacle;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ImageBeside> {
    const { environment, role } = this.#look;
    let images = 0;
    for await (const names of this.#batches()) {
      throwIfAborted(environment.signal, `Looking for the ${role}`);
      for (const found of await someAtATime(names, LOOKS, (name) => this.#find(name))) {
        if (found !== null && ++images > LIMITS.parentCandidates) {
          this.#complete = false;
          return;
        }
        if (found !== null && found !== UNREADABLE) yield found;
      }
    }
  }

  /** Names of files that are looked at together, up to the limit. */
  async *#batches(): AsyncGenerator<string[]> {
    let names: string[] = [];
    let files = 0;
    for await (const name of this.#names()) {
      if (++files > LIMITS.filesBeside) {
        this.#complete = false;
        break;
      }
      names.push(name);
      if (names.length < LOOKS) continue;
      yield names;
      names = [];
    }
    if (names.length > 0) yield names;
  }

  /** The names as far as the system lists them. A refusal of the gate is thrown. */
  async *#names(): AsyncGenerator<string> {
    const { gate, from } = this.#look;
    try {
      yield* gate.candidates(from);
    } catch (error) {
      if (!isImageError(error) || error.kind === 'aborted' || isRefusal(error)) throw error;
      this.#obstacle = error;
    }
  }

  async #find(name: string): Promise<Found> {
    const known = this.#look.known?.get(name);
    return known === undefined ? this.#open(name) : (known ?? UNREADABLE);
  }

  /** Reads one file, in any directory. Null for anything that is not a readable image, whatever the error. */
  async lookAt(name: string): Promise<ImageBeside | null> {
    const found = await this.#open(name);
    return found === UNREADABLE ? null : found;
  }

  async #open(name: string): Promise<Found> {
    const { gate, from, role, environment } = this.#look;
    const namedBy = { gate, from, role };
    const how: ImageFileOptions = { environment, gate, mode: 'read', infoOnly: true, namedBy };
    let isImage = false;
    try {
      return await withImageFile({ provider: from.provider, name }, how, async (file) => {
        const { format, answer, guessed } = await file.probe();
        isImage = !guessed && answer.isPiece !== true;
        if (!isImage) return null;
        if (!format.capabilities.read) return UNREADABLE;
        return await linksIn(file, { format, recognisedBy: answer.reason, guessed, warnings: [] });
      });
    } catch (error) {
      if (!isImageError(error) || error.kind === 'aborted') throw error;
      // This one says nothing about the file.
      if (error.status === 'VERR_TOO_MANY_OPEN_FILES') this.#obstacle = error;
      return isImage ? UNREADABLE : null;
    }
  }
}

/** An image with the names that it stores. */
async function linksIn(file: ImageFile, chosen: ChosenFormat): Promise<ImageBeside> {
  const { image, name, key } = await file.open(chosen, { withoutData: true });
  const { info } = image;
  const named = namesIn(image);
  await image.close();
  return { name, key, info, named };
}

/** The extent of a search that was cut short. */
export function boundsBeside(): string {
  return `${LIMITS.parentCandidates} images among ${LIMITS.filesBeside} files`;
}

/** True for a refusal of the gate itself; failures of the system have a cause. */
function isRefusal({ kind, cause }: ImageError): boolean {
  return kind === 'denied' && cause === undefined;
}

/** Throws when images that depend on a parent may have been missed. */
export function refuseIncomplete(path: string, { complete, obstacle }: SearchExtent): void {
  if (complete) return;
  if (obstacle !== undefined) {
    throw new ImageError('busy', 'The directory of the image cannot be searched for images that depend on it', {
      path,
      found: describeError(obstacle),
      hint: 'Make the directory readable, or use option force (on the command line: --force) if no image depends on this one.',
      cause: obstacle,
    });
  }
  throw new ImageError('busy', 'The directory contains too many files to find all images that depend on this one', {
    path,
    expected: `at most ${boundsBeside()}`,
    hint: 'Move it and its children to a smaller directory, or proceed with option force (on the command line: --force).',
  });
}
