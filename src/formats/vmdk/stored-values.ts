/** Values of the options that an image was made with, to compare them with those that an amendment names. */
import type { Config } from '../../image/contract.ts';
import { CONFIG } from './config.ts';
import { EXTENT_TYPES } from './descriptor/extents.ts';
import { KEYS } from './descriptor/facts.ts';
import { readLayout } from './extents/cowd.ts';
import type { SparseLayout } from './extents/header.ts';
import { SparseExtent } from './extents/sparse.ts';
import type { VmdkParts } from './image.ts';

/** Values that only files of extents hold. */
const OF_EXTENTS = [CONFIG.grainSize, CONFIG.zeroedGrain];

/**
 * Values that the image has of the options that are named, as far as they are stored: the subformat, and those of its
 * first sparse extent, whose file is opened for it if it is closed. Throws what opening that file throws.
 */
export async function storedValues(parts: VmdkParts, wanted: Config): Promise<Config> {
  const createType = parts.descriptor?.text.value(KEYS.createType) ?? undefined;
  const asked = String(wanted[CONFIG.subformat] ?? '');
  // The case of the word does not matter, as it does not when an image is made.
  const subformat = createType?.toLowerCase() === asked.toLowerCase() ? asked : createType;
  const layout = OF_EXTENTS.some((key) => wanted[key] !== undefined) ? await layoutOf(parts) : null;
  if (layout === null) return { [CONFIG.subformat]: subformat };
  return {
    [CONFIG.subformat]: subformat,
    [CONFIG.grainSize]: layout.grainBytes,
    [CONFIG.zeroedGrain]: layout.zeroGrains ? 'on' : 'off',
  };
}

/** The header of the first sparse extent; null: there is none. */
async function layoutOf({ extents, lines, files }: VmdkParts): Promise<SparseLayout | null> {
  const open = extents.find((extent) => extent instanceof SparseExtent);
  if (open instanceof SparseExtent) return open.layout;
  const line = lines.find(({ type }) => EXTENT_TYPES[type] === 'sparse' || EXTENT_TYPES[type] === 'cowd');
  if (typeof line?.file !== 'string' || files === undefined) return null;
  const storage = await files.open({ name: line.file, role: 'extent', part: true }, 'read');
  try {
    return await readLayout(storage);
  } finally {
    await storage.close();
  }
}
