/**
 * libvmdk and libvhdi, libraries of forensic tools, as peers: `vmdkinfo` and `vhdiinfo` tell the size, `vmdkmount` and
 * `vhdimount` read where there is FUSE.
 */
import { execFile } from 'node:child_process';
import { accessSync, constants, createReadStream } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MakeWay, Peer, PeerKit } from '../formats/peer-kit.ts';
import type { PeerProgram } from './peers.ts';
import { sameAsStream } from './same-stream.ts';

const run = promisify(execFile);

/** Differences of the formats. `cannotMount`: the reason why it gives no content of images of this kind. */
type LibraryKit = Pick<PeerKit, 'cannot' | 'cannotRead' | 'longest'> & {
  readonly cannotMount: (way: MakeWay) => string | null;
};

/** VMDK. */
export const libvmdk = (kit: LibraryKit): PeerKit => peerOf('libvmdk', ['vmdkinfo', 'vmdkmount'], kit);
/** VHD and VHDX. */
export const libvhdi = (kit: LibraryKit): PeerKit => ({
  ...peerOf('libvhdi', ['vhdiinfo', 'vhdimount'], kit),
  keepsOriginalSize: true,
});

function peerOf(
  name: string,
  programs: readonly [info: string, mount: string],
  { cannot, cannotMount, cannotRead, longest }: LibraryKit,
): PeerKit {
  return {
    name,
    programs,
    ...(longest === undefined ? {} : { longest }),
    ...(cannotRead === undefined ? {} : { cannotRead }),
    cannot(way, what) {
      if (what === 'make') return 'it makes no disks';
      return cannot(way, what) ?? (hasFuse() ? cannotMount(way) : null);
    },
    start: (info, mount) => {
      if (info === undefined || mount === undefined) throw new Error(`${name} is missing`);
      const size: Peer['size'] = async ({ path }) => sizeIn(await info.run(path));
      if (!hasFuse()) return { size };
      const same: Peer['same'] = (image, raw) =>
        mounted(mount, image.path, (disk) => sameAsStream(createReadStream(disk), image, raw));
      return { size, same };
    },
  };
}

function sizeIn(report: string): number {
  const bytes = /Media size\s*:.*?(\d+)(?: bytes)?\)?$/m.exec(report)?.[1];
  if (bytes === undefined) throw new Error(`no size is told: ${report}`);
  return Number(bytes);
}

/** Only root mounts without a helper. */
function hasFuse(): boolean {
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  return process.getuid?.() === 0;
}

async function mounted(mount: PeerProgram, image: string, read: (disk: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'vdkit-fuse-'));
  try {
    await mount.run(image, folder);
    try {
      // One file for each image of a chain, the base first.
      const disks = (await readdir(folder)).sort((one, other) => one.localeCompare(other, 'en', { numeric: true }));
      await read(join(folder, disks.at(-1) ?? ''));
    } finally {
      await run('umount', [folder]);
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
