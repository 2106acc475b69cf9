/** Golden images and how they get onto the disk. */
import { createHash } from 'node:crypto';
import {
  closeSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { type ContentOp, expectedContent } from './content.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** A file of an image beside its main one. */
export interface GoldenPart {
  readonly file: string;
  readonly size: number;
  readonly sha256?: string;
  /** Null: plain guest bytes, made again from the content rule. */
  readonly storedAs: string | null;
}

/** One entry of a manifest; the README of this folder describes the fields. */
export interface GoldenImage {
  readonly file: string;
  readonly format: string;
  readonly storedAs: string;
  readonly virtualSize: number;
  readonly fileSize: number;
  readonly fileSha256: string;
  readonly blockSize: number | null;
  readonly uuid: string | null;
  readonly parentUuid: string | null;
  readonly modificationUuid: string | null;
  readonly parentModificationUuid: string | null;
  readonly comment?: string;
  readonly chain: readonly string[];
  readonly sha256OfGuestContent: string | null;
  readonly allocatedRuns?: { readonly data: readonly Run[]; readonly zero: readonly Run[] } | null;
  readonly contentOps: readonly ContentOp[] | null;
  readonly extents?: readonly GoldenPart[];
  /** Set when the file is damaged on purpose: what was done to it. */
  readonly damage?: string;
}

/** First unit and number of units. */
export type Run = readonly [first: number, count: number];

/** Folders of this directory: one for each format. */
export function goldenFolders(): string[] {
  return readdirSync(HERE, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name)
    .sort();
}

/** The images of one format. */
export class GoldenSet {
  readonly images: readonly GoldenImage[];
  readonly #folder: string;
  #work: string | null = null;

  constructor(name: string) {
    this.#folder = join(HERE, name);
    this.images = JSON.parse(readFileSync(join(this.#folder, 'manifest.json'), 'utf8'));
  }

  /** A directory that holds this image and its chain, and nothing else. Returns the path of the image. */
  unpack(image: GoldenImage): string {
    this.#work ??= mkdtempSync(join(tmpdir(), 'vdkit-golden-'));
    const directory = join(this.#work, `of-${image.file}`);
    mkdirSync(directory);
    for (const file of image.chain) {
      const member = this.images.find((entry) => entry.file === file);
      if (member === undefined) throw new Error(`${image.file}: ${file} of its chain is not in the manifest`);
      for (const part of partsOf(member)) linkSync(this.#unpackOnce(member, part), join(directory, part.file));
    }
    return join(directory, image.file);
  }

  /** Removes everything that was unpacked. */
  dispose(): void {
    if (this.#work !== null) rmSync(this.#work, { recursive: true, force: true });
  }

  /** One copy of each file for all chains that need it. Written out whole, so that it has no holes. */
  #unpackOnce(image: GoldenImage, part: GoldenPart): string {
    const path = join(this.#work ?? '', part.file);
    if (readdirSync(this.#work ?? '').includes(part.file)) return path;
    if (part.storedAs === null) writeGuestBytes(path, image, part);
    else writeFileSync(path, this.#bytesOf(image, part, part.storedAs));
    return path;
  }

  #bytesOf(image: GoldenImage, part: GoldenPart, storedAs: string): Uint8Array {
    const stored = readFileSync(join(this.#folder, storedAs));
    const bytes = storedAs.endsWith('.gz') ? gunzipSync(stored) : stored;
    const wanted = part.file === image.file ? image.fileSha256 : part.sha256;
    if (createHash('sha256').update(bytes).digest('hex') !== wanted) {
      throw new Error(`${storedAs} does not unpack to what the manifest says`);
    }
    return bytes;
  }
}

/** Plain guest bytes by the content rule. They can be gigabytes: what no step touches stays a hole. */
function writeGuestBytes(path: string, image: GoldenImage, part: GoldenPart): void {
  const all = image.extents ?? [];
  const start = all.slice(0, all.indexOf(part)).reduce((sum, { size }) => sum + size, 0);
  const file = openSync(path, 'w');
  ftruncateSync(file, part.size);
  for (const op of image.contentOps ?? []) {
    const [first, length] = op[0] === 'zero' ? [op[1], op[2]] : [op[2], op[3]];
    const from = Math.max(first, start);
    const end = Math.min(first + length, start + part.size);
    if (from >= end) continue;
    writeSync(file, expectedContent(image.contentOps ?? [], from, end - from), 0, end - from, from - start);
  }
  closeSync(file);
}

function partsOf(image: GoldenImage): readonly GoldenPart[] {
  const main = { file: image.file, size: image.fileSize, storedAs: image.storedAs };
  return [main, ...(image.extents ?? []).filter(({ file }) => file !== image.file)];
}
