/** Disks of the host that an image describes instead of holding their data: vd.h's VDISKRAW. */

/** A range of the disk: vd.h's VDISKRAWPARTDESC. Bytes; areas follow each other without gaps. */
export interface RawArea {
  readonly start: number;
  readonly length: number;
  /** `device`: read from the device, at the same offset. `copy`: `bytes`, kept with the image. `hidden`: reads zero. */
  readonly kind: 'device' | 'copy' | 'hidden';
  /** Of an area of kind `copy`. */
  readonly bytes?: Uint8Array | undefined;
}

/** A described disk. */
export interface RawDisk {
  /** Name of the device, absolute. */
  readonly device: string;
  /** Bytes, whole sectors. */
  readonly size: number;
  /** False: the image permits reading the device alone. */
  readonly writable: boolean;
  /** Null: all of the device. */
  readonly areas: readonly RawArea[] | null;
}
