/** Facts that a format gives about itself, the same for all its images: capabilities, names, options, probes. */

/** Kind of medium: vd.h's VDTYPE. */
export type MediumType = 'hdd' | 'optical' | 'floppy';

/**
 * Room of an image: `fixed` has a place for every byte of the disk from its creation and keeps it; `dynamic` takes room
 * when it is first written.
 */
export type Allocation = 'fixed' | 'dynamic';

/** Capabilities of a format: vd.h's VDBACKENDINFO capability word, with vdkit's additions. */
export interface FormatCapabilities {
  /** Stores UUIDs. */
  readonly uuid: boolean;
  readonly createFixed: boolean;
  readonly createDynamic: boolean;
  readonly createSplit: boolean;
  /** Supports differencing images. */
  readonly diff: boolean;
  /** A frequently used format. */
  readonly preferred: boolean;
  readonly read: boolean;
  readonly write: boolean;
  readonly discard: boolean;
  readonly resize: boolean;
  readonly compact: boolean;
  readonly check: boolean;
  readonly repair: boolean;
  /** Guest bytes stand in the file in the order of the disk: an image can be read from a stream. */
  readonly sequential: boolean;
}

/** vd.h's VDFILEEXTENSION. */
export interface FileExtension {
  /** Without the dot, lower case. */
  readonly extension: string;
  readonly type: MediumType;
}

/** Value of a config key. */
export type ConfigValue = string | number | Uint8Array;

/** Values of config keys, by name. */
export type Config = Readonly<Record<string, ConfigValue | undefined>>;

/** Purpose of a config key, the same in all formats. The `values` of `compression` are its methods. */
export type ConfigRole = 'unit' | 'preallocation' | 'compression' | 'compression level' | 'part';

/** vd.h's VDCONFIGINFO. */
export interface ConfigKey {
  readonly name: string;
  readonly valueType: 'integer' | 'string' | 'bytes';
  readonly default: string | null;
  readonly mandatory: boolean;
  readonly expert: boolean;
  readonly createOnly: boolean;
  /** One line for help texts. */
  readonly description: string;
  readonly role?: ConfigRole | undefined;
  /** Accepted values, the default first; left out: all values of the type. */
  readonly values?: readonly (string | number)[] | undefined;
}

/** A word for `--variant`. */
export interface Variant {
  readonly word: string;
  readonly description: string;
  /** Room of an image of this variant; left out: the word says nothing about it. */
  readonly allocation?: Allocation | undefined;
  /** Disks of such images are multiples of this. Left out: of 512 bytes. */
  readonly sizeUnit?: number | undefined;
  /** The image needs a parent. */
  readonly differencing?: boolean | undefined;
}

/** Input of a probe: small and fixed, since probing must be cheap and never fail. */
export interface ProbeInput {
  readonly name: string;
  readonly size: number;
  /** The first 64 KiB, or the whole of a shorter file. */
  readonly head: Uint8Array;
  /** The last 1 KiB, or the whole of a shorter file. */
  readonly tail: Uint8Array;
}

/** Input for probing a directory. */
export interface DirectoryProbeInput {
  readonly name: string;
  /** Names of files in it, without the directory: sorted, at most 1,000. */
  readonly names: readonly string[];
}

/** `yes`: a signature unlikely to occur by chance. `maybe`: content or name match. The reason is for people. */
export interface ProbeAnswer {
  readonly match: 'yes' | 'maybe' | 'no';
  readonly reason: string;
  /** Precise description for messages: `QCOW2 version 3`. */
  readonly detail?: string;
  readonly type?: MediumType;
  /** The file is a piece of an image and stores no names or UUIDs: searches for parents and children pass it over. */
  readonly isPiece?: boolean;
}
