/**
 * The part of a format's kit about other programs: what each can make, write, read and check. The suites of
 * `test/peers/` run over all of them; a program without a method takes no part in what needs it.
 */
import type { ExtentState } from '../../src/disk/device.ts';
import type { Measure } from '../../src/image/contract.ts';
import type { Sample } from '../hostile/descriptor.ts';
import type { PeerProgram } from '../peers/peers.ts';

/** One way to make an image. */
export interface MakeWay {
  /** A word of `--variant`; empty: the default. */
  readonly variant: string;
  /** Options as `key=value`, with commas between; may be empty. A file is named by its base name. */
  readonly options: string;
  /** Over a parent of the same format. */
  readonly over: boolean;
}

/** A way, by what differs from the default. */
export function way(options: string, more: Partial<MakeWay> = {}): MakeWay {
  return { variant: '', options, over: false, ...more };
}

/** Name of a way in the titles of tests. */
export function wayTitle({ variant, options, over }: MakeWay): string {
  const words = [variant, options].filter((word) => word !== '').join(' ');
  return `${words || 'default'}${over ? ' over a parent' : ''}`;
}

/** An image under test, by the name of its main file. */
export interface PeerImage {
  readonly path: string;
  readonly way: MakeWay;
}

/** A step of a program that writes. Discarded bytes may read as anything afterwards. */
export interface PeerChange {
  readonly how: 'write' | 'zero' | 'unmap' | 'discard';
  readonly offset: number;
  readonly length: number;
  /** Of a write; zeroes that are written are stored. */
  readonly byte: number;
}

/** A run of a program's map. */
export interface PeerRun {
  readonly start: number;
  readonly length: number;
  /** States of vdkit that fit: several where the program does not look, or does not tell them apart. */
  readonly states: readonly ExtentState[];
  /** Number of the image in its chain, 0 is the one that was opened; left out: not told. */
  readonly depth?: number;
  /** Place of stored bytes in the file; null: compressed; left out: not told. */
  readonly fileOffset?: number | null;
}

/** A program at work on images of one format. Everything rejects when the program fails. */
export interface Peer {
  /** Unit to which it rounds up the length of a disk that another program made; the rest is zero. Left out: none. */
  rounds?: ((way: MakeWay) => number) | undefined;
  /** It loses room when it zeroes what is stored. Left out: it does not. */
  leaks?: ((way: MakeWay) => boolean) | undefined;
  make?: ((image: PeerImage, size: number, parent?: string) => Promise<void>) | undefined;
  /** Makes the image from a raw one. */
  convert?: ((raw: string, image: PeerImage) => Promise<void>) | undefined;
  write?: ((image: PeerImage, changes: readonly PeerChange[]) => Promise<void>) | undefined;
  /** Finds the format by the content. */
  recognises?: ((image: PeerImage) => Promise<boolean>) | undefined;
  size?: ((image: PeerImage) => Promise<number>) | undefined;
  /** Bytes of a unit; null: it reports none. */
  unit?: ((image: PeerImage) => Promise<number | null>) | undefined;
  map?: ((image: PeerImage) => Promise<readonly PeerRun[]>) | undefined;
  /** Rejects unless the image is sound. */
  check?: ((image: PeerImage) => Promise<void>) | undefined;
  /** Rejects unless the disk has the bytes of this raw one. */
  same?: ((image: PeerImage, raw: string) => Promise<void>) | undefined;
  /** Writes the disk into a raw file. */
  toRaw?: ((image: PeerImage, raw: string) => Promise<void>) | undefined;
  /** Options of the image as the program reports them, in the words of vdkit. */
  options?: ((image: PeerImage) => Promise<Readonly<Record<string, string>>>) | undefined;
  /** Room that a target made this way would take. */
  measure?:
    | ((source: { readonly path: string; readonly format: string }, target: PeerImage) => Promise<Measure>)
    | undefined;
}

/** Another program, and its way with a format. */
export interface PeerKit {
  /** As people call it. */
  readonly name: string;
  /** Names in `test/peers/peers.json`. */
  readonly programs: readonly string[];
  /**
   * The reason why it cannot read, or cannot make, images of this kind; null: it can. Tests show that the reason holds,
   * so that a program that learns more is noticed.
   */
  cannot(way: MakeWay, what: 'read' | 'make'): string | null;
  /** The reason why it cannot write images of this kind, which it reads. Left out: there is none. */
  cannotWrite?(way: MakeWay): string | null;
  /** The same of the hand-made images. */
  cannotRead?(sample: Sample): string | null;
  /** The longest disk whose content it is asked for: some programs read every byte. */
  readonly longest?: number;
  /** The longest disk of a fixed image that it makes, where that takes room on the host. */
  readonly longestFixed?: number;
  /** The size to which a large disk grows beside it, where it walks all units of it. Default 258 GiB. */
  readonly longestGrown?: number;
  /** It reports the size that the disk had when the image was made, and shows so much of it. Default false. */
  readonly keepsOriginalSize?: boolean;
  /** Length of the file of an image that it made, if this number of bytes is stored without gaps. */
  packed?(bytes: number): number;
  /** Gets its programs in their order. */
  start(...programs: readonly PeerProgram[]): Peer;
}
