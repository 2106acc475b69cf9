/** The command line of a VISO file, understood: what is added in which order, texts, name spaces, boot images. */
import { PAD_BLOCKS, PLATFORM } from '../../blocks/iso9660/layout.ts';
import type { IsoLevel, IsoNode, IsoRecipe, IsoTexts } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';

/** Name spaces that an image can have here. */
export type Space = 'iso' | 'joliet';

/** Names in the image, each with its path; null: left out of that name space. */
export type Names = Readonly<Record<Space, string | null>>;

/** Owner and permissions of what is added. */
export interface AttributeRules {
  /** As on the host; otherwise of root, and readable by all. */
  readonly strict: boolean;
  /** Modes whatever the host has; null: no such rule. */
  readonly fileMode: number | null;
  readonly directoryMode: number | null;
  /** Mode of directories that only a name tells. */
  readonly newDirectoryMode: number | null;
}

/** Another mode, owner or group for a name that is there. */
export interface Change {
  readonly do: 'change';
  readonly path: string;
  readonly option: string;
  /** Bits that are set, without those that are kept. */
  readonly mode?: { readonly kept: number; readonly set: number };
  readonly user?: number;
  readonly group?: number;
}

/** Another image whose files are taken. */
export interface IsoSource {
  /** Name of its file. */
  readonly path: string;
  readonly root: IsoNode;
  readonly hasJoliet: boolean;
  readonly texts: Readonly<Record<Space, IsoTexts>>;
  readonly boot: readonly BootWish[];
  /** The boot catalog as a file; null: it is none. */
  readonly catalog: IsoNode | null;
  /** Something stands before its descriptors. */
  readonly hasSystem: boolean;
}

/** A step of building the tree, in the order of the text. */
export type Step =
  | {
      readonly do: 'add';
      readonly names: Names;
      readonly host: string;
      readonly rules: AttributeRules;
      readonly from: IsoSource | null;
    }
  | { readonly do: 'import'; readonly names: Names; readonly iso: IsoSource }
  | { readonly do: 'remove'; readonly names: Names; readonly must: boolean }
  | { readonly do: 'catalog'; readonly names: Names; readonly rules: AttributeRules }
  | Change;

/** A boot image, by its name in the image. */
export interface BootWish {
  file: string | null;
  /** Left out: it is looked for by its name. */
  readonly node?: IsoNode;
  platform: number;
  bootable: boolean;
  /** Null: by platform and length. */
  sectors: number | null;
  segment: number;
  /** Null: by length. */
  media: number | null;
  infoTable: boolean;
}

/** See the head of this file. */
export interface VisoCommand {
  readonly steps: Step[];
  readonly boot: BootWish[];
  texts: Readonly<Record<Space, IsoTexts>>;
  level: IsoLevel;
  joliet: boolean;
  jolietLevel: IsoLevel;
  rockRidge: IsoRecipe['rockRidge'];
  /** Tables of the primary names in every directory. */
  transTables: boolean;
  pad: number;
  /** File on the host with the system area. */
  genericBoot: string | null;
  /** Name spaces that the names of the next file stand for, one list for each name. */
  setup: readonly (readonly Space[])[];
  rules: AttributeRules;
  /** Images that names of files are looked for in: the last one counts. Empty: on the host. */
  readonly sources: IsoSource[];
  /** An image that was imported, the last one. */
  imported: IsoSource | null;
  readonly warnings: string[];
}

const NO_TEXTS: IsoTexts = {
  volume: 'CDROM',
  system: '',
  volumeSet: '',
  publisher: '',
  preparer: '',
  application: 'VDKIT',
  copyright: '',
  abstract: '',
  bibliography: '',
};

/** The command of a text without words. */
export function emptyCommand(): VisoCommand {
  return {
    steps: [],
    boot: [],
    texts: { iso: NO_TEXTS, joliet: NO_TEXTS },
    level: 3,
    joliet: true,
    jolietLevel: 3,
    rockRidge: 'full',
    transTables: false,
    pad: PAD_BLOCKS,
    genericBoot: null,
    setup: [['iso', 'joliet']],
    rules: { strict: false, fileMode: null, directoryMode: null, newDirectoryMode: null },
    sources: [],
    imported: null,
    warnings: [],
  };
}

/** The boot image that options are about. */
export function bootOf(command: VisoCommand): BootWish {
  return command.boot.at(-1) ?? newBoot(command);
}

/** Begins another boot image, for the platform of the last one. */
export function newBoot({ boot }: VisoCommand): BootWish {
  const platform = boot.at(-1)?.platform ?? PLATFORM.x86;
  const wish: BootWish = {
    file: null,
    platform,
    bootable: true,
    sectors: null,
    segment: 0x7c0,
    media: null,
    infoTable: false,
  };
  boot.push(wish);
  return wish;
}

/** The error for something that VirtualBox knows and vdkit does not. */
export function unsupported(found: string, expected: string, hint?: string): ImageError {
  return new ImageError('unsupported', 'The VISO file asks for something that is not supported', {
    found,
    expected,
    ...(hint === undefined ? {} : { hint }),
  });
}
