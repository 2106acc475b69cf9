/** VHD images for the power-cut suites: how they are made, and which rules must hold in their bytes. */
import { SECTOR } from '../../../src/binary/numbers.ts';
import { defaultRegistry } from '../../../src/formats/index.ts';
import { BAT_UNUSED, FOOTER, HEADER } from '../../../src/formats/vhd/layout.ts';
import type { CrashCheck, CrashSuite } from '../../../src/testing/index.ts';
import { crashSuite } from '../../faults/common-crashes.ts';
import type { Parents } from '../../faults/relinking.ts';
import { parentOf, UNIT, type Way } from '../../faults/ways.ts';
import { traffic, type Workload } from '../../faults/workloads.ts';
import { fileBytes } from '../../model/extents.ts';
import type { Mutation } from '../crash-kit.ts';

/** Sectors of a block of `ways.ts`. */
export const BLOCK = 8;

const FORMAT = defaultRegistry().find('vhd');
export const DYNAMIC: Way = { title: 'dynamic', format: FORMAT, variant: [], diff: false };
export const CHILD: Way = { title: 'diff', format: FORMAT, variant: [], diff: true };

/** Parents that a child gets in turn. */
export const PARENTS: Parents = {
  format: 'vhd',
  config: { block_size: UNIT },
  first: parentOf(CHILD),
  between: traffic(8, { flushes: 0.3, unit: BLOCK }),
};

/** An image that is made, and whatever the sessions do with it. */
export function vhdSuite(way: Way, seed: number, sessions: readonly Workload[], mutation: Mutation = {}): CrashSuite {
  return { ...crashSuite(way, seed, sessions, mutation), check: brokenRules };
}

/** The image comes with one of its footers damaged: the last one, or its copy. Each session ends with both whole. */
export function damagedFooter(suite: CrashSuite, which: 'last' | 'copy'): CrashSuite {
  return {
    ...suite,
    async build(provider) {
      await suite.build(provider);
      const storage = await provider.open(suite.image, 'write');
      const footer = new Uint8Array(SECTOR);
      const at = which === 'copy' ? 0 : storage.size - SECTOR;
      await storage.read(at, footer);
      footer[RESERVED] = 1;
      await storage.write(at, footer);
      await storage.flush();
      await storage.close();
    },
    check: (context) => brokenRules(context, context.stage === 'found'),
  };
}

/** A byte of the footer that says nothing. */
const RESERVED = 300;

/** Violations of the format, read from the bytes independently of the code under test. */
export async function brokenRules({ provider, image }: CrashCheck, isDamaged = false): Promise<string[]> {
  const bytes = await fileBytes({ provider, name: image });
  if (bytes.length === 0) return [];
  const [copy, atEnd] = [footerAt(bytes, 0), footerAt(bytes, bytes.length - SECTOR)];
  const start = copy ?? (isDamaged ? atEnd : null);
  // Of a file that got longer, nothing but the length may be left: then the copy at the start counts.
  const isLonger = bytes.subarray(-SECTOR).every((byte) => byte === 0);
  const end = atEnd ?? (isLonger || isDamaged ? start : null);
  if (end === null) return isLonger && !isDamaged ? [] : ['There is no whole footer at the end'];
  if (end.type === 2) return [];
  const at = Number(end.dataOffset);
  const header = HEADER.decode(bytes.subarray(at, at + HEADER.size));
  const tableEnd = header.tableOffset + header.entries * 4;
  const problems = start === null ? ['There is no whole footer at the start'] : [];
  if (sumOf(bytes.subarray(at, at + HEADER.size), 36) !== header.checksum) problems.push('The header is not whole');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks = Math.ceil(end.currentSize / header.blockSize);
  const places = Array.from({ length: blocks }, (_, index) => view.getUint32(header.tableOffset + index * 4))
    .filter((entry) => entry !== BAT_UNUSED)
    .sort((one, other) => one - other);
  const slot = (SECTOR + header.blockSize) / SECTOR;
  if (places.some((place, index) => index > 0 && place - (places[index - 1] ?? 0) < slot)) {
    problems.push('Two blocks lie in one place');
  }
  if (places.some((place) => place * SECTOR < tableEnd)) problems.push('A block lies among the metadata');
  const last = places.at(-1);
  if (last !== undefined && (last + slot) * SECTOR > bytes.length - SECTOR) problems.push('A block reaches the footer');
  return problems;
}

function footerAt(bytes: Uint8Array, at: number): ReturnType<typeof FOOTER.decode> | null {
  if (at < 0) return null;
  const footer = bytes.subarray(at, at + SECTOR);
  const text = new TextDecoder('latin1').decode(footer.subarray(0, 8));
  return text === 'conectix' && sumOf(footer, 64) === FOOTER.get(footer, 'checksum') ? FOOTER.decode(footer) : null;
}

function sumOf(bytes: Uint8Array, field: number): number {
  const sum = bytes.reduce((all, byte, at) => (at >= field && at < field + 4 ? all : all + byte), 0);
  return (0xffff_ffff - sum) >>> 0;
}
