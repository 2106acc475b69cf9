/** 7-Zip as a peer of any format that it has: it reads and tests. */
import { open } from 'node:fs/promises';
import { alignUp } from '../../src/binary/numbers.ts';
import type { Peer, PeerImage, PeerKit } from '../formats/peer-kit.ts';

const GIB = 1024 ** 3;

/** Differences of the formats. */
export interface SevenZipKit {
  /** Its name of the format. */
  readonly format: string;
  cannot: PeerKit['cannot'];
  cannotRead?: PeerKit['cannotRead'];
  /** The longest disk that it is asked for; left out: 4 GiB. */
  readonly longest?: number;
  rounds?: Peer['rounds'];
}

/** See the head of this file. It reads every byte of a disk, holes too. */
export function sevenZip({ format, cannot, cannotRead, longest = 4 * GIB, rounds }: SevenZipKit): PeerKit {
  return {
    name: '7-Zip',
    programs: ['7zip'],
    longest,
    cannot: (way, what) => (what === 'make' ? 'it makes no disks' : cannot(way, what)),
    ...(cannotRead === undefined ? {} : { cannotRead }),
    start: (program) => {
      if (program === undefined) throw new Error('7-Zip is missing');
      return {
        rounds,
        async check({ path }) {
          await program.run('t', `-t${format}`, path);
        },
        same: (image, raw) => sameAsStream(program.stream('x', `-t${format}`, '-so', image.path), image, raw, rounds),
      };
    },
  };
}

async function sameAsStream(
  stream: AsyncIterable<Uint8Array>,
  { path, way }: PeerImage,
  raw: string,
  rounds: Peer['rounds'],
): Promise<void> {
  const file = await open(raw);
  try {
    let offset = 0;
    let wanted = new Uint8Array(0);
    for await (const bytes of stream) {
      if (wanted.length < bytes.length) wanted = new Uint8Array(bytes.length);
      wanted.fill(0, 0, bytes.length);
      await file.read(wanted, 0, bytes.length, offset);
      if (Buffer.compare(wanted.subarray(0, bytes.length), bytes) !== 0) {
        throw new Error(`${path}: the ${bytes.length} bytes at ${offset} differ`);
      }
      offset += bytes.length;
    }
    const { size } = await file.stat();
    if (offset !== size && offset !== alignUp(size, rounds?.(way) ?? 1))
      throw new Error(`${path}: ${offset} bytes of ${size}`);
  } finally {
    await file.close();
  }
}
