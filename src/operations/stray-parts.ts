/** Files beside an image with names of parts of it that no image names: a resize that was cut leaves them. */
import { ImagesBeside } from '../disk/open/beside.ts';
import type { Environment } from '../disk/open/environment.ts';
import type { OpenedImage } from '../disk/open/image-file.ts';
import { keysOfNamed, type PlacedImage } from '../disk/open/parts.ts';
import { isImageError, printable } from '../errors.ts';
import type { Finding } from '../image/findings.ts';
import type { Source } from '../storage/contract.ts';
import { baseName, gateForNeighbours, isPlainName } from '../storage/gate.ts';

/** Warnings, one a file. Empty where the directory cannot be searched as a whole: another image may name the file. */
export async function strayParts({ image, source, key }: OpenedImage, environment: Environment): Promise<Finding[]> {
  const strays = await candidates({ image, source }, key);
  if (strays.size === 0) return [];
  const gate = gateForNeighbours();
  const beside = new ImagesBeside({ from: source, gate, role: 'images beside it', environment });
  for await (const other of beside) {
    // An image in its own right, or a part of one.
    strays.delete(other.key);
    for (const found of await keysNamedBy(other.named, { ...source, name: other.name })) strays.delete(found);
  }
  return beside.complete ? [...strays.values()].map(warning) : [];
}

/** Files with such names that the image does not name itself, by their keys. */
async function candidates({ image, source }: PlacedImage, key: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  if (image.isPartName === undefined || source.isDirectory === true || source.configuration !== undefined) return found;
  const { provider, name } = source;
  const directory = provider.directory(name);
  const named = new Set([key, ...(await keysOfNamed({ image, source }))]);
  try {
    for await (const file of provider.list(directory)) {
      if (!image.isPartName(baseName(file, directory))) continue;
      const info = await provider.lookUp(file);
      if (info?.kind === 'file' && !named.has(info.key)) found.set(info.key, file);
    }
  } catch (error) {
    if (!isImageError(error) || error.kind === 'aborted') throw error;
    // A directory that cannot be listed hides what is left over.
    return new Map();
  }
  return found;
}

async function keysNamedBy(names: readonly string[], { provider, name }: Source): Promise<string[]> {
  const infos = names.filter(isPlainName).map((stored) => provider.lookUp(provider.resolve(stored, name)));
  return (await Promise.all(infos)).flatMap((info) => (info === null ? [] : [info.key]));
}

function warning(file: string): Finding {
  return {
    severity: 'warning',
    code: 'stray-part',
    message: `${printable(file)} has the name of a part of this image, but no image here names it: a resize that was cut may have left it. Delete it if nothing needs it.`,
    fileOffset: null,
    guestOffset: null,
    repairable: false,
  };
}
