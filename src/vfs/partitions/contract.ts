/** What a partition table says. */

/** One partition. */
export interface Partition {
  /** As Linux numbers them: primary ones and extended ones 1 to 4, logical ones from 5 on; in a GPT by their entry. */
  readonly number: number;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  readonly length: number;
  /** `extended` only holds the logical ones, and is no place for an image. */
  readonly kind: 'primary' | 'extended' | 'logical' | 'gpt';
  /** `0x83`, or a GUID. */
  readonly type: string;
  /** Null when it is not known. */
  readonly typeName: string | null;
  /** Only in a GPT; null when it is empty. */
  readonly name: string | null;
  /** Identity of the partition: only in a GPT. */
  readonly guid: string | null;
  /** `active`; `required`, `no-block-io`, `legacy-boot`; `attribute-60` and the like for those that depend on the type. */
  readonly flags: readonly string[];
}

/** A whole partition table. */
export interface PartitionTable {
  /** `none`: there is no table, or none that could be read; `warnings` tell. */
  readonly kind: 'none' | 'mbr' | 'gpt';
  /** Unit that the table counts in, bytes. */
  readonly sectorSize: number;
  /** `0x1234abcd`, or a GUID; null where there is no table. */
  readonly diskId: string | null;
  /** In the order of their numbers. */
  readonly partitions: readonly Partition[];
  /** What is wrong with the table. */
  readonly warnings: readonly string[];
}

/** How a table is read. */
export interface PartitionOptions {
  /**
   * Bytes of a sector: 512 or 4096. Default: a GPT says it itself by where it stands; for an MBR it is 512, as in
   * images of all disks but few.
   */
  readonly sectorSize?: number;
}

/** Reads whole ranges inside the disk; false when they do not lie inside. */
export interface TableReader {
  readonly label: string;
  readonly size: number;
  read(offset: number, length: number): Promise<Uint8Array | null>;
}
