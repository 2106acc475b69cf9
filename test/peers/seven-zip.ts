/** 7-Zip as a peer of any format that it has: it reads and tests. */
import type { Peer, PeerKit } from '../formats/peer-kit.ts';
import { sameAsStream } from './same-stream.ts';

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
