/** Small chains in memory, for what changes the structure of a chain. */
import { createImage, Disk } from '../../src/index.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';

export const MIB = 1024 * 1024;
export type Values = Readonly<Record<string, string | number>>;

/** Images with parents, and the smallest piece that one of them holds by itself. */
export interface Kind {
  readonly name: string;
  readonly format: string;
  readonly unit: number;
  readonly config: Values;
  /** Bytes of tables in the file of an image that was emptied. */
  readonly keeps?: number;
}

/** Formats whose images can have parents. */
export const KINDS: readonly Kind[] = [
  { name: 'qcow2', format: 'qcow2', unit: 4096, config: { cluster_size: 4096 } },
  { name: 'qcow2 version 2', format: 'qcow2', unit: 4096, config: { cluster_size: 4096, compat: '0.10' } },
  { name: 'qcow2 with subclusters', format: 'qcow2', unit: 512, config: { cluster_size: 16_384, extended_l2: 'on' } },
  { name: 'vdi', format: 'vdi', unit: 4096, config: { AllocationBlockSize: 4096 } },
  { name: 'vmdk', format: 'vmdk', unit: 4096, config: { grain_size: 4096 } },
  { name: 'vhd', format: 'vhd', unit: 4096, config: { block_size: 4096 } },
  { name: 'vhdx', format: 'vhdx', unit: MIB, config: {}, keeps: 3 * MIB },
  { name: 'qed', format: 'qed', unit: 4096, config: { cluster_size: 4096, table_size: 2 }, keeps: 8192 },
  { name: 'qcow', format: 'qcow', unit: 4096, config: { cluster_size: 4096 }, keeps: 4096 },
];

/** Files in memory, with images of one format. */
export class Place {
  readonly provider = new MemoryProvider();
  readonly format: string;
  readonly config: Values;

  constructor(format: string, config: Values) {
    this.format = format;
    this.config = config;
  }

  at(name: string) {
    return { provider: this.provider, name };
  }

  open(name: string, mode: 'read' | 'write' = 'write'): Promise<Disk> {
    return Disk.open(this.at(name), { mode, flushAfterMs: 0, allow: ['/'], format: this.format });
  }

  /** An image with these ranges, each filled with one byte. */
  async make(name: string, size: number, fills: readonly Fill[], parent?: string): Promise<void> {
    const over = parent === undefined ? {} : { parent: this.at(parent), parentFormat: this.format };
    await createImage(this.at(name), { format: this.format, config: this.config, size, ...over, allow: ['/'] });
    await using disk = await this.open(name);
    for (const { at, length, byte } of fills) {
      if (byte === 0) await disk.zero(at, length);
      else await disk.write(at, new Uint8Array(length).fill(byte));
    }
  }

  async content(name: string): Promise<Buffer> {
    await using disk = await this.open(name, 'read');
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    return Buffer.from(bytes);
  }

  async bytesHeld(name: string): Promise<number> {
    await using disk = await Disk.open(this.at(name), { withoutParents: true, format: this.format });
    let held = 0;
    for await (const { state, length } of disk.extents()) if (state !== 'absent') held += length;
    return held;
  }
}

/** A range of one byte. */
export interface Fill {
  readonly at: number;
  readonly length: number;
  readonly byte: number;
}

export const fill = (at: number, length: number, byte: number): Fill => ({ at, length, byte });
