/** The tree of files that an ISO 9660 image is made of. */

/** Content of a file: the maker only needs its size and a word for it. */
export interface IsoContent {
  readonly size: number;
  /** Content that was made for the image. Left out: it is read when it is asked for. */
  readonly bytes?: Uint8Array | undefined;
}

/** Owner and permissions. */
export interface IsoAttributes {
  /** At most 0o7777. */
  readonly mode: number;
  readonly user: number;
  readonly group: number;
}

/** A file, a directory or a symbolic link. */
export interface IsoNode {
  /** Name on the host, any characters but `/` and NUL. */
  readonly name: string;
  readonly modifiedMs: number;
  /** Executable by anybody. */
  readonly executable: boolean;
  /** Null: not a directory. */
  readonly children: IsoNode[] | null;
  /** Null: not a file. */
  readonly content: IsoContent | null;
  /** Target of a link; null: not a link. */
  readonly target: string | null;
  /** Left out: of root, readable by all, writable by none. */
  readonly attributes?: IsoAttributes | undefined;
}

/** A boot image of El Torito: a file of the tree. */
export interface BootImage {
  readonly node: IsoNode;
  /** See `PLATFORM` in `layout.ts`. */
  readonly platform: number;
  /** False: the BIOS emulates the medium, and does not start from it. */
  readonly bootable: boolean;
  /** 512-byte sectors that the BIOS loads. */
  readonly sectors: number;
  readonly segment: number;
  /** 0 no emulation, 1 to 3 floppies of 1.2, 1.44 and 2.88 MB, 4 hard disk. */
  readonly media: number;
  /** Bytes of the image with room for the boot information table; null: the image gets none. */
  readonly withInfo: Uint8Array | null;
}

/** Texts of the descriptors. */
export interface IsoTexts {
  readonly volume: string;
  readonly system: string;
  readonly volumeSet: string;
  readonly publisher: string;
  readonly preparer: string;
  readonly application: string;
  readonly copyright: string;
  readonly abstract: string;
  readonly bibliography: string;
}

/** Levels of ECMA-119, and those of UCS-2 in Joliet. */
export type IsoLevel = 1 | 2 | 3;

/** A second tree of the same contents. */
export interface JolietRecipe {
  readonly root: IsoNode;
  /** Only a mark in the descriptor. */
  readonly level: IsoLevel;
  readonly texts: IsoTexts;
}

/** Everything that a plan is made of. */
export interface IsoRecipe {
  readonly root: IsoNode;
  readonly texts: IsoTexts;
  /** Time in the descriptors. */
  readonly createdMs: number;
  /** Rules of the primary names, see `plainNames`; only level 3 has files of 4 GiB and more. */
  readonly level: IsoLevel;
  /** Null: no Joliet names. */
  readonly joliet: JolietRecipe | null;
  /** POSIX names, modes and links. `limited`: without the entry by which most readers notice them. */
  readonly rockRidge: 'full' | 'limited' | 'none';
  readonly boot: readonly BootImage[];
  /** The boot catalog as a file of the tree; null: it has no name. */
  readonly catalog: IsoContent | null;
  /** First 32 KiB: code that starts from a hard disk. */
  readonly system: Uint8Array | null;
  /** Zero blocks behind the data. */
  readonly pad: number;
}

/** Bounds of a tree. */
export const ISO_LIMITS = {
  /** Files, directories and links. */
  entries: 500_000,
  /** Directories inside of each other. */
  depth: 128,
  /** Directories of a path table: their numbers have 16 bits. */
  directories: 65_535,
  /** UTF-8 bytes of a name. */
  nameBytes: 255,
  /** Bytes of a boot image with an information table. */
  bootBytes: 16 * 1024 * 1024,
} as const;
