/** Partition tables. */

/** One partition. */
export interface Partition {
  /** Linux numbering: primary and extended partitions 1 to 4, logical ones from 5 on; in a GPT by entry. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  readonly length: number;
  /**
   * `extended` only contains logical partitions and cannot contain an image.
   */
  readonly kind: 'primary' | 'extended' | 'logical' | 'gpt';
  /** `0x83`, or a GUID. */
  readonly type: string;
  /** Name of the type; null when unknown. */
  readonly typeName: string | null;
  /** GPT only; null when empty. */
  readonly name: string | null;
  /** Identity of the partition: GPT only. */
  readonly guid: string | null;
  /**
   * `active`; `required`, `no-block-io`, `legacy-boot`; `attribute-60` and so on for type-specific bits.
   */
  readonly flags: readonly string[];
}

/** A whole partition table. */
export interface PartitionTable {
  /**
   * `none`: no table, or an unreadable one; see `warnings`.
   */
  readonly kind: 'none' | 'mbr' | 'gpt';
  /** Sector size that the table uses, in bytes. */
  readonly sectorSize: number;
  /**
   * `0x1234abcd`, or a GUID; null without a table.
   */
  readonly diskId: string | null;
  /** In order of number. */
  readonly partitions: readonly Partition[];
  /** Problems in the table, one sentence each. */
  readonly warnings: readonly string[];
}

/** Options for reading a table. */
export interface PartitionOptions {
  /**
   * Sector size in bytes: 512 or 4096. Default: detected from the position of a GPT; 512 for an MBR, as on nearly all
   * disks.
   */
  readonly sectorSize?: number | undefined;
}

/** Reads a whole range; false when it does not lie inside the disk. */
export interface TableReader {
  readonly label: string;
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array | null>;
}
