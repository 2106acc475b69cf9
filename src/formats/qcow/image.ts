/**
 * An open QCOW image of version 1.
 *
 * The format has no mark for an image that was not closed and none for zeroes: without a backing file clusters of zeroes are
 * not stored, over one they are. Room of compressed clusters that were written over is found when the image is opened.
 */
import type { ChunkReader } from '../../blocks/chunk-reader.ts';
import { TwoLevelImage, type TwoLevelImageParts } from '../../blocks/two-level-image.ts';
import { readTwoLevel, type TwoLevelState } from '../../blocks/two-level-state.ts';
import type { Encoder, ImageInfo, Mapping, ParentLink, ResizeOptions } from '../../image/contract.ts';
import { parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import type { MaybePromise, ReadTarget } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { type QcowShape, shapeOf } from './shape.ts';
import { StreamEncoder, streamReader } from './streams.ts';

/** See the head of this file. */
export class QcowImage extends TwoLevelImage<QcowShape> {
  protected override readonly title = 'QCOW';
  readonly encoder: Encoder | null;
  readonly #reader: ChunkReader;

  constructor(parts: TwoLevelImageParts<QcowShape>) {
    super(parts);
    this.#reader = streamReader(parts.storage, () => this.state);
    this.encoder = this.can.write ? new StreamEncoder(parts.storage, () => this.state) : null;
  }

  get info(): ImageInfo {
    const { backing, clusterSize, virtualSize, encrypted, tableEntries, raw } = this.state.shape.header;
    const { label } = this.own.storage;
    const names = backing === null || backing.name === '' ? [] : [backing.name];
    const rest = Number(raw.size - BigInt(virtualSize));
    return plainInfo({
      format: 'qcow',
      virtualSize,
      blockSize: clusterSize,
      version: '1',
      variant: [backing === null ? 'dynamic' : 'diff'],
      differencing: backing !== null,
      parent: backing === null ? null : parentReference({ names, formatDetected: true }),
      encryption: encrypted ? 'aes-cbc' : null,
      warnings:
        rest === 0 ? [] : [`The last ${rest} bytes of the disk of ${label} are not a whole sector, and left out.`],
      config: { cluster_size: clusterSize, compression_type: 'zlib' },
      details: { 'L2 entries': tableEntries },
    });
  }

  override map(guestOffset: number, length: number): MaybePromise<Mapping> {
    const { table, shape } = this.state;
    const { clusterSize, virtualSize } = shape;
    const first = Math.floor(guestOffset / clusterSize);
    const entry = table.get(first);
    // What is not in memory the map loads, and says for which part of the disk where it cannot.
    if (entry === undefined) return this.#loaded(first, guestOffset, length);
    if (entry >= 0) return super.map(guestOffset, length);
    const end = Math.min(guestOffset + length, virtualSize);
    let next = first + 1;
    while (next * clusterSize < end && (table.get(next) ?? 0) < 0) next++;
    return { kind: 'encoded', length: Math.min(next * clusterSize, end) - guestOffset };
  }

  async readEncoded(guestOffset: number, target: ReadTarget): Promise<void> {
    await this.#reader.read(guestOffset, target);
  }

  async beginChanges(): Promise<void> {
    this.state.map.checkWritable();
  }

  async endChanges(): Promise<void> {}

  async checkSize(size: number): Promise<void> {
    const { checkDiskSize } = await import('./change.ts');
    checkDiskSize(size, this.state.shape.header, this.own.storage.label);
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const name = names.get(this.state.shape.header.backing?.name ?? '');
    if (name === undefined) return;
    await this.restructure(() => this.storeParent({ name, format: '', uuid: null, modificationUuid: null }));
  }

  protected async load(): Promise<TwoLevelState<QcowShape>> {
    const { storage, guard } = this.own;
    this.#reader.forget();
    return readTwoLevel(storage, shapeOf(await readHeader(storage)), { mode: 'write', guard });
  }

  protected async storeParent(parent: ParentLink | null): Promise<void> {
    const { storage } = this.own;
    const { storeParent } = await import('./change.ts');
    await storeParent({ storage, state: this.state }, parent);
  }

  protected async resizeNow(size: number, options: ResizeOptions): Promise<void> {
    const { storage, guard } = this.own;
    const { putSize, roomForTables } = await import('./change.ts');
    const { resizeTwoLevel } = await import('../../blocks/two-level-resize.ts');
    const shape = await roomForTables(storage, this.state, size);
    if (shape !== null) this.state = await readTwoLevel(storage, shape, { mode: 'write', guard });
    const { state } = this;
    const flush = (): Promise<void> => this.flushTables();
    await resizeTwoLevel({ storage, state, size, options, flush, putSize: (stored) => putSize(storage, stored) });
  }

  async #loaded(index: number, guestOffset: number, length: number): Promise<Mapping> {
    const found = await super.map(guestOffset, length);
    return this.state.table.get(index) === undefined || found.kind === 'zero' ? this.map(guestOffset, length) : found;
  }
}
