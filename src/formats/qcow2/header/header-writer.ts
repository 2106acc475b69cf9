/** Changes of the header on the medium. Each is durable when it resolves, and a cut leaves the old header or the new one. */
import { alignDown, SECTOR } from '../../../binary/numbers.ts';
import { readPadded } from '../../../storage/read-padded.ts';
import type { Directory } from '../bitmaps/bitmap-store.ts';
import { AUTOCLEAR, BITMAPS, EXTENSION_TYPE, HEADER } from '../layout.ts';
import type { HeaderChanges } from '../snapshots/snapshot-store.ts';
import type { Qcow2State } from '../state.ts';
import { withExtension } from './extensions.ts';
import type { Qcow2Header } from './header.ts';
import type { HeaderStep } from './header-switch.ts';

/** Writes the header of an image. */
export class HeaderWriter {
  readonly #state: Qcow2State;

  constructor(state: Qcow2State) {
    this.#state = state;
  }

  /** Changes fields of the first sector, durably and atomically. */
  async change(changes: HeaderChanges): Promise<void> {
    const { sector, storage, guard } = this.#state;
    for (const [name, value] of Object.entries(changes)) HEADER.put(sector, name as 'autoclear', value as bigint);
    await guard.run(async () => {
      await storage.write(0, sector.slice());
      await storage.flush();
    });
    const header = { ...this.#state.header, ...changes };
    this.#state.header = { ...header, virtualSize: alignDown(header.size, SECTOR) };
  }

  /** Switches to a header with other extensions or backing file, durably; a cut leaves one of the two. */
  async switchTo(header: Qcow2Header): Promise<void> {
    const { sector, storage, guard } = this.#state;
    const steps = await this.steps(header);
    await guard.run(async () => {
      for (const { rest, firstSector } of steps) {
        for (const { offset, bytes } of rest) await storage.write(offset, bytes);
        if (rest.length > 0) await storage.flush();
        sector.set(firstSector);
        await storage.write(0, firstSector);
        await storage.flush();
      }
    });
    this.#state.header = header;
  }

  /** Steps to another header. Throws `unsupported` when there is no safe way. */
  async steps(header: Qcow2Header): Promise<HeaderStep[]> {
    const cluster = new Uint8Array(header.clusterSize);
    await readPadded(this.#state.storage, 0, cluster);
    const { headerSteps } = await import('./header-switch.ts');
    return headerSteps(cluster, this.#state.header, header);
  }

  /** Throws `unsupported` when the header cannot be switched to that directory of bitmaps. */
  async checkDirectory(directory: Directory): Promise<void> {
    await this.steps(this.#withDirectory(directory));
  }

  /** Switches the header to another directory of bitmaps, or none. */
  async changeDirectory(directory: Directory | null): Promise<void> {
    await this.switchTo(this.#withDirectory(directory));
  }

  #withDirectory(directory: Directory | null): Qcow2Header {
    const { header } = this.#state;
    const { extensions, autoclear } = header;
    const bitmaps = directory === null ? null : { ...directory, reserved: 0 };
    const data = bitmaps === null ? null : BITMAPS.encode(bitmaps);
    // Bitmaps that another program did not look after get no better by a change of the list.
    const kept = header.bitmaps === null ? AUTOCLEAR.bitmaps : autoclear & AUTOCLEAR.bitmaps;
    return {
      ...header,
      bitmaps,
      autoclear: (autoclear & ~AUTOCLEAR.bitmaps) | (bitmaps === null ? 0n : kept),
      extensions: withExtension(extensions, EXTENSION_TYPE.bitmaps, data),
    };
  }
}
