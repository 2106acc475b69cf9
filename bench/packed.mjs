/** Rows of disks that are packed: DMG images, and files that were compressed once more. */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readdirSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findPeer, installHint, PEERS } from '../scripts/peers.mjs';

/** What is unpacked: `ending` of the packed file, `target` of ours, and the programs that do the same. */
const PACKED = [
  {
    ...{ name: 'udzo dmg to raw', ending: 'dmg', target: 'new.raw', aim: 0.6, limit: 0.65 },
    peers: {
      dmg2img: (source, out) => ['dmg2img', ['-s', '-i', source, '-o', out]],
      'qemu-img': (source, out) => ['qemu-img', ['convert', '-t', 'writeback', '-f', 'dmg', '-O', 'raw', source, out]],
    },
  },
  {
    ...{ name: 'raw.gz to vdi', ending: 'raw.gz', target: 'new.vdi', aim: 1, limit: 1.1 },
    peers: {
      // Durable at the end, as ours.
      gzip: (source, out) => ['sh', ['-c', `gzip -dc '${source}' | dd of='${out}' bs=1M conv=fsync status=none`]],
    },
  },
];

/**
 * Rows, and `prepare`, which makes their files.
 * @param {object} place
 * @param {string} place.folder
 * @param {string} place.program vdkit's.
 * @param {{ raw: string, small: string, tiny: string }} place.disks Raw disks: 2 GiB, a quarter of that, 1 MiB.
 */
export function packedRows({ folder, program, disks }) {
  const at = (name) => join(folder, name);
  const fresh = () => {
    for (const name of readdirSync(folder)) if (name.startsWith('new')) rmSync(at(name));
  };
  const packed = ({ ending }, disk) => at(`packed-${basename(disk, '.raw')}.${ending}`);
  const both = (row, peer, disk) => {
    const source = packed(row, disk);
    const [command, args] = row.peers[peer](source, at('new.peer'));
    const ours = [program, 'convert', source, at(row.target), '--quiet'];
    return {
      ours: { program: process.execPath, args: ours, before: fresh },
      theirs: { program: command, args, before: fresh },
    };
  };
  const rowsOf = (row) =>
    Object.keys(row.peers)
      .filter(isHere)
      .flatMap((peer) => {
        const { aim, limit } = row;
        const name = `convert ${row.name}, beside ${peer}`;
        const [all, small] = [both(row, peer, disks.raw), both(row, peer, disks.small)];
        return [
          { name, measures: 'pairs', ...all, aim, limit },
          { name: `${name}: slope`, measures: 'slope', ...all, small, aim, limit },
          { name: `${name}: fixed part`, measures: 'fixed', ...both(row, peer, disks.tiny), aim: 60, limit: 120 },
        ];
      });
  return {
    cases: PACKED.flatMap(rowsOf),
    /** Which of the raw disks the rows that are chosen need. */
    disksOf: (/** @type {(file: string) => boolean} */ needs) =>
      Object.values(disks).filter((disk) => PACKED.some((row) => needs(packed(row, disk)))),
    prepare(/** @type {(file: string) => boolean} */ needs) {
      for (const disk of Object.values(disks)) {
        for (const row of PACKED.filter((one) => needs(packed(one, disk)))) pack(program, disk, packed(row, disk));
      }
    },
  };
}

/** Makes the packed file of a disk. */
function pack(/** @type {string} */ program, /** @type {string} */ disk, /** @type {string} */ file) {
  if (file.endsWith('.dmg')) {
    const options = ['--format', 'raw', '--to', 'dmg', '--variant', 'udzo', '--quiet'];
    execFileSync(process.execPath, [program, 'convert', disk, file, ...options]);
    return;
  }
  const out = openSync(file, 'w');
  execFileSync('gzip', ['-1', '-c', disk], { stdio: ['ignore', out, 'inherit'] });
  closeSync(out);
}

/** True for a program that is there; one that is not has no rows. */
function isHere(/** @type {string} */ name) {
  const peer = PEERS.find((one) => one.name === name);
  if (peer === undefined || findPeer(peer) !== null) return true;
  console.error(`warning: ${name} is not installed, and is left out: ${installHint(peer)}`);
  return false;
}
