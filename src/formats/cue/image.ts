/** An open cue sheet: the sectors of its tracks, behind each other in the order of the sheet. */
import { ExtentList } from '../../blocks/extents.ts';
import type { ImageInfo, ImagePart, Mapping, MetadataExtent, TrackInfo } from '../../image/contract.ts';
import { PlainImage } from '../../image/plain-image.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { Region, RegionList } from '../../image/regions.ts';
import { allDone } from '../../storage/all-done.ts';
import type { Storage } from '../../storage/contract.ts';
import { isAudio } from './layout.ts';
import { framesOf, regionForm, type Stretch } from './places.ts';
import type { Sheet } from './sheet.ts';
import { swappedOf, userDataOf } from './user-data.ts';

/** Part of the sectors that is shown. */
export type SectorForm = 'raw' | 'data';

/** All that an image is made of. */
export interface CueParts {
  readonly storage: Storage;
  readonly sheet: Sheet;
  /** Of each FILE line; null: its tracks are not there. Several lines may name one file. */
  readonly files: readonly (Storage | null)[];
  /** All sectors of all files. */
  readonly stretches: readonly Stretch[];
  /** Number in the list of the one track that is shown; null: all. */
  readonly track: number | null;
  readonly form: SectorForm;
}

/** See the head of this file. */
export class CueImage extends PlainImage {
  readonly info: ImageInfo;
  readonly #extents: ExtentList;
  readonly #own: CueParts;
  readonly #files: readonly Storage[];

  constructor(own: CueParts) {
    super(own.storage);
    this.#own = own;
    const { stretches, track, form } = own;
    const shown = stretches.filter((one) => track === null || (one.track === track && !one.isGap));
    this.#files = [...new Set(own.files.filter((file) => file !== null))];
    this.#extents = new ExtentList(shown.map((stretch) => extentOf(own, stretch)));
    const regions = regionsOf(shown, form);
    const sizes = new Set(regions.regions.map(({ blockSize }) => blockSize));
    const [sectorSize = 0] = sizes;
    this.info = plainInfo({
      format: 'cue',
      type: 'optical',
      virtualSize: this.#extents.size,
      blockSize: null,
      sectorSize: sizes.size === 1 ? sectorSize : 512,
      regions,
      tracks: tracksOf(own),
      warnings: warningsOf(own),
    });
  }

  map(guestOffset: number, length: number): Mapping {
    return this.#extents.map(guestOffset, length);
  }

  override async *metadata(): AsyncGenerator<MetadataExtent> {
    const { storage } = this;
    yield { storage, fileOffset: 0, length: storage.size, what: 'cue sheet', guestOffset: null };
  }

  parts(): ImagePart[] {
    const { sheet, files } = this.#own;
    const parts = new Map<string, ImagePart>();
    for (const [number, { name }] of sheet.files.entries()) {
      parts.set(name, { name, role: 'track file', storage: files[number] ?? null });
    }
    return [...parts.values()];
  }

  override storages(): readonly Storage[] {
    return [this.storage, ...this.#files];
  }

  override close(): Promise<void> {
    return allDone(this.storages().map((storage) => storage.close()));
  }
}

function extentOf({ sheet, files, form }: CueParts, { type, file, fileOffset, frames }: Stretch) {
  const stored = files[file];
  if (stored === null || stored === undefined) throw new Error('internal: a stretch lies in an open file');
  const swaps = isAudio(type) && sheet.files[file]?.type === 'MOTOROLA';
  const storage = swaps ? swappedOf(stored) : stored;
  if (form === 'raw' || type.data.length === type.stored) {
    return { length: frames * type.stored, storage, fileOffset, writable: false };
  }
  return {
    length: frames * type.data.length,
    storage: userDataOf(storage, type, fileOffset),
    fileOffset: 0,
    writable: false,
  };
}

/** Stretches of one kind that follow each other in a track are one region. */
function regionsOf(stretches: readonly Stretch[], form: SectorForm): RegionList {
  const regions: Region[] = [];
  let before: Stretch | null = null;
  for (const stretch of stretches) {
    const { type, frames } = stretch;
    const last = regions.at(-1);
    const blockSize = form === 'raw' ? type.stored : type.data.length;
    const length = frames * blockSize;
    if (
      last !== undefined &&
      before?.track === stretch.track &&
      before.isGap === stretch.isGap &&
      before.type === type
    ) {
      regions[regions.length - 1] = { ...last, length: last.length + length };
    } else {
      const dataForm = blockSize === 2048 ? 'mode1-2048' : regionForm(stretch);
      const metadataBytes = blockSize - Math.min(blockSize, type.data.length);
      regions.push({
        offset: last === undefined ? 0 : last.offset + last.length,
        length,
        blockSize,
        dataForm,
        metadataForm: metadataBytes === 0 ? 'none' : 'raw',
        dataBytes: blockSize - metadataBytes,
        metadataBytes,
      });
    }
    before = stretch;
  }
  return { unit: 'bytes', regions };
}

function tracksOf({ sheet, stretches }: CueParts): TrackInfo[] {
  let address = 0;
  return sheet.tracks.map(({ number, type, pregap, postgap, indexes }, track) => {
    const { own, gap } = framesOf(stretches, track);
    const start = address + pregap + gap;
    address = start + own + postgap;
    const first = stretches.find((one) => one.track === track && !one.isGap);
    const file = indexes.find((index) => index.number === 1)?.file ?? 0;
    return {
      number,
      form: isAudio(type) ? 'audio' : type.word.toLowerCase().replace('/', '-'),
      file: sheet.files[file]?.name ?? '',
      fileOffset: first?.fileOffset ?? null,
      address: start,
      frames: own,
      blockSize: type.stored,
      gapFrames: gap,
      silentFrames: pregap + postgap,
    };
  });
}

function warningsOf({ sheet, files }: CueParts): string[] {
  return sheet.files
    .filter((_, number) => files[number] === null)
    .map(({ name, line }) => `No track lies in the file ${name} of line ${line}: it is left out.`);
}
