/**
 * An open QED image.
 *
 * The order of writes keeps an image sound whatever is cut off, so that the mark "need check" asks for nothing that vdkit
 * needs. It is set all the same in images without a backing file, as QEMU does: an image whose writer was cut off is to be
 * checked.
 *
 * Clusters that are zero are not marked in the tables, since VirtualBox takes the mark for a place in the file: without a
 * backing file they are not stored, and over one they are stored as zeroes.
 */
import { TwoLevelImage } from '../../blocks/two-level-image.ts';
import { readTwoLevel, type TwoLevelState } from '../../blocks/two-level-state.ts';
import type { ImageInfo, ParentLink, ResizeOptions } from '../../image/contract.ts';
import { parentReference } from '../../image/parent.ts';
import { plainInfo } from '../../image/plain-info.ts';
import { checkDiskSize, readHeader } from './header.ts';
import { FEATURE, HEADER } from './layout.ts';
import { type QedShape, shapeOf } from './shape.ts';

/** See the head of this file. */
export class QedImage extends TwoLevelImage<QedShape> {
  protected override readonly title = 'QED';
  #begun = false;

  get info(): ImageInfo {
    const { backing, clusterSize, virtualSize, needCheck, header } = this.state.shape.header;
    const { label } = this.own.storage;
    const dirty = needCheck && !this.#begun;
    const names = backing === null || backing.name === '' ? [] : [backing.name];
    // What the mark for a raw disk does not rule out is found by looking.
    const format = backing?.raw === true ? { format: 'raw' } : { formatDetected: true };
    return plainInfo({
      format: 'qed',
      virtualSize,
      blockSize: clusterSize,
      variant: [backing === null ? 'dynamic' : 'diff'],
      dirty,
      differencing: backing !== null,
      parent: backing === null ? null : parentReference({ names, ...format }),
      warnings: dirty ? [`${label} was not closed: it is checked when it is opened for writing.`] : [],
      config: { cluster_size: clusterSize, table_size: header.tableSize },
      details: { 'table clusters': header.tableSize, 'header clusters': header.headerSize },
    });
  }

  async beginChanges(): Promise<void> {
    this.state.map.checkWritable();
    if (this.#begun) return;
    const { header, backing } = this.state.shape.header;
    const needed = backing === null ? FEATURE.needCheck : 0n;
    await this.own.guard.run(() => this.#putFeatures(header.features | needed));
    this.#begun = true;
  }

  async endChanges(): Promise<void> {
    const { guard } = this.own;
    if (!this.#begun || guard.failed) return;
    const { sector } = this.state.shape.header;
    await guard.run(() => this.#putFeatures(HEADER.get(sector, 'features') & ~FEATURE.needCheck));
    this.#begun = false;
  }

  checkSize(size: number): void {
    checkDiskSize(size, this.state.shape.header, this.own.storage.label);
  }

  async readdress(names: ReadonlyMap<string, string>): Promise<void> {
    const { backing } = this.state.shape.header;
    const name = names.get(backing?.name ?? '');
    if (backing === null || name === undefined) return;
    const link = { name, format: backing.raw ? 'raw' : '', uuid: null, modificationUuid: null };
    await this.restructure(() => this.storeParent(link));
  }

  protected async load(): Promise<TwoLevelState<QedShape>> {
    const { storage, guard } = this.own;
    return readTwoLevel(storage, shapeOf(await readHeader(storage)), { mode: 'write', guard });
  }

  protected async storeParent(parent: ParentLink | null): Promise<void> {
    const { storage } = this.own;
    const { storeParent } = await import('./relink.ts');
    await storeParent({ storage, layout: this.state.shape.header }, parent);
  }

  protected async resizeNow(size: number, options: ResizeOptions): Promise<void> {
    const { storage } = this.own;
    const { resizeTwoLevel } = await import('../../blocks/two-level-resize.ts');
    const putSize = (stored: number): Promise<void> => {
      return this.#putSector((sector) => HEADER.put(sector, 'imageSize', stored));
    };
    await resizeTwoLevel({ storage, state: this.state, size, options, flush: () => this.flushTables(), putSize });
  }

  /** Unknown features that a writer must clear are cleared with the first change. */
  async #putFeatures(features: bigint): Promise<void> {
    const { sector } = this.state.shape.header;
    if (HEADER.get(sector, 'features') === features && HEADER.get(sector, 'autoclear') === 0n) return;
    await this.#putSector((changed) => {
      HEADER.put(changed, 'features', features);
      HEADER.put(changed, 'autoclear', 0n);
    });
  }

  async #putSector(change: (sector: Uint8Array) => void): Promise<void> {
    const { storage } = this.own;
    const { sector } = this.state.shape.header;
    change(sector);
    await storage.write(0, sector.slice());
    await storage.flush();
  }
}
