/** Golden images as bytes, for suites that change them in memory. */
import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import type { ContentOp } from '../golden/content.ts';
import type { GoldenImage } from '../golden/manifest.ts';
import type { SampleFile } from './descriptor.ts';

/** One golden image with its parents. */
export interface GoldenBytes {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Its parents, base first. */
  readonly beside: readonly SampleFile[];
  readonly virtualSize: number;
  readonly content: readonly ContentOp[];
}

/** The named images of one format's folder. Where bundled code lies is two folders below the package too. */
export function readGolden(folder: string, files: readonly string[]): GoldenBytes[] {
  const place = new URL(`../../test/golden/${folder}/`, import.meta.url);
  const images: readonly GoldenImage[] = JSON.parse(readFileSync(new URL('manifest.json', place), 'utf8'));
  const find = (file: string): GoldenImage => {
    const image = images.find((entry) => entry.file === file);
    if (image === undefined) throw new Error(`${file} is not in the manifest of ${folder}`);
    return image;
  };
  const unpacked = ({ storedAs }: GoldenImage): Uint8Array => {
    const stored = readFileSync(new URL(storedAs, place));
    return storedAs.endsWith('.gz') ? gunzipSync(stored) : stored;
  };
  return files.map((file) => {
    const image = find(file);
    if (image.contentOps === null) throw new Error(`${file} has no content rule`);
    const beside = image.chain.slice(0, -1).map((name) => ({ name, bytes: unpacked(find(name)) }));
    return { name: file, bytes: unpacked(image), beside, virtualSize: image.virtualSize, content: image.contentOps };
  });
}
