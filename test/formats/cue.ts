/** Cue sheets for the test suites, put together by hand. */
import { Random } from '../../src/testing/random.ts';
import { randomBytes } from '../conformance/random.ts';
import type { Anatomy, HostileKit, Sample } from '../hostile/descriptor.ts';
import type { FormatKit } from './kit.ts';

/** A sheet, and its files in the order of the disk. */
function sample(name: string, sheet: string, files: Readonly<Record<string, number>>): Sample {
  const bytes = new TextEncoder().encode(sheet);
  const parts = Object.entries(files).map(([file, length], index) => ({
    name: file,
    bytes: randomBytes(new Random(index + 1), length),
    // A file that is longer by whole sectors has more of them.
    anatomy: { structs: [], tables: [], edges: [0, 2352, 2048, length - 2352], length: 'free' } satisfies Anatomy,
  }));
  const content = new Uint8Array(parts.reduce((sum, part) => sum + part.bytes.length, 0));
  let at = 0;
  for (const part of parts) {
    content.set(part.bytes, at);
    at += part.bytes.length;
  }
  const lines = [...sheet.matchAll(/\n/g)].map(({ index }) => index);
  return {
    name,
    format: 'cue',
    bytes,
    parts,
    beside: [],
    anatomy: { structs: [], tables: [], edges: lines, length: 'free' },
    virtualSize: content.length,
    content,
    golden: false,
    every: 1,
    differencing: false,
  };
}

const hostile: HostileKit = {
  async samples() {
    return [
      sample(
        'one file',
        'FILE "image-a.bin" BINARY\n  TRACK 01 MODE1/2352\n    INDEX 01 00:00:00\n  TRACK 02 AUDIO\n    INDEX 00 00:00:05\n    INDEX 01 00:00:10\n',
        { 'image-a.bin': 32 * 2352 },
      ),
      sample(
        'a file for each track',
        'REM x\nFILE image-a.bin BINARY\nTRACK 1 MODE1/2048\nINDEX 1 0:0:0\nFILE "image-b.bin" BINARY\nTRACK 2 AUDIO\nPREGAP 00:02:00\nINDEX 01 00:00:00\n',
        { 'image-a.bin': 10 * 2048, 'image-b.bin': 32 * 2352 },
      ),
      sample(
        'a file between the indexes of a track',
        'TITLE "x"\nFILE "image-a.bin" BINARY\nTRACK 01 MODE2/2352\nINDEX 01 00:00:00\nTRACK 02 AUDIO\nINDEX 00 00:00:20\nFILE "image-b.bin" BINARY\nINDEX 01 00:00:00\nTRACK 03 AUDIO\nINDEX 01 00:00:15\nINDEX 02 00:00:16\n',
        { 'image-a.bin': 32 * 2352, 'image-b.bin': 32 * 2352 },
      ),
    ];
  },
  // A sheet whose files are cut off is refused.
  damagedLeast: [6, 0],
  hollow: () => [],
};

export const kit: FormatKit = {
  format: 'cue',
  golden: { without: 'no program makes them here', cases: 'cue' },
  hostile,
  limits: async () => (await import('./cue/limits.ts')).limits,
};
