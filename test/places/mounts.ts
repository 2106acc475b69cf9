/** File systems for tests: mounted from files, and gone again whatever happens. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder to work in. */
export interface Place {
  readonly folder: string;
  remove(): void;
}

const undone = new Set<() => void>();
process.once('exit', () => {
  for (const undo of undone) undo();
});

/** Runs once: at the end of the test, or with the process. */
function once(undo: () => void): () => void {
  const run = (): void => {
    if (undone.delete(run)) undo();
  };
  undone.add(run);
  return run;
}

/** Runs a program of the system, quietly. Returns its output. */
export function system(command: string, ...words: readonly string[]): string {
  return execFileSync(command, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** True if the program is there and succeeds. */
export function works(command: string, ...words: readonly string[]): boolean {
  try {
    system(command, ...words);
    return true;
  } catch {
    return false;
  }
}

/** An empty folder of this test. */
export function plain(parent = tmpdir()): Place {
  const folder = mkdtempSync(join(parent, 'vdkit-place-'));
  return { folder, remove: once(() => rmSync(folder, { recursive: true, force: true })) };
}

/** Mounts something on a folder inside a new one. */
function mountIn(mount: (folder: string, outer: string) => void): Place {
  const outer = plain();
  const folder = join(outer.folder, 'mount');
  mkdirSync(folder);
  try {
    mount(folder, outer.folder);
  } catch (error) {
    outer.remove();
    throw error;
  }
  const unmount = (): void => {
    // Lazily: a handle that a failed test left open must not keep the mount.
    if (!works('umount', folder)) works('umount', '-l', folder);
    outer.remove();
  };
  return { folder, remove: once(unmount) };
}

/** A file system of this kind in a sparse file. */
function fromFile(bytes: number, make: readonly string[], options = 'loop'): () => Place {
  return () =>
    mountIn((folder, outer) => {
      const medium = join(outer, 'medium');
      writeFileSync(medium, '');
      truncateSync(medium, bytes);
      const [command = '', ...words] = make;
      system(command, ...words, medium);
      system('mount', '-o', options, medium, folder);
    });
}

function overlay(): Place {
  return mountIn((folder, outer) => {
    system('mount', '-t', 'tmpfs', 'tmpfs', folder);
    const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => join(outer, name));
    for (const name of [lower, upper, work]) mkdirSync(name ?? '');
    system('umount', folder);
    const options = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
    system('mount', '-t', 'overlay', 'overlay', '-o', options, folder);
  });
}

const MIB = 1024 ** 2;

/** File systems by name, with the program that makes them. */
export const FILE_SYSTEMS = {
  tmpfs: { needs: 'mount', make: () => mountIn((folder) => system('mount', '-t', 'tmpfs', 'tmpfs', folder)) },
  ext4: { needs: 'mkfs.ext4', make: fromFile(64 * MIB, ['mkfs.ext4', '-q', '-F']) },
  xfs: { needs: 'mkfs.xfs', make: fromFile(320 * MIB, ['mkfs.xfs', '-q', '-f']) },
  btrfs: { needs: 'mkfs.btrfs', make: fromFile(160 * MIB, ['mkfs.btrfs', '-q', '-f']) },
  FAT: { needs: 'mkfs.vfat', make: fromFile(64 * MIB, ['mkfs.vfat', '-F', '32'], 'loop,shortname=mixed') },
  overlay: { needs: 'mount', make: overlay },
} as const satisfies Readonly<Record<string, { readonly needs: string; make(): Place }>>;

/** A folder seen through a read-only mount, for as long as the place exists. */
export function readOnlyView(of: string): Place {
  return mountIn((folder) => {
    system('mount', '--bind', of, folder);
    system('mount', '-o', 'remount,ro,bind', folder);
  });
}

/** A block device over a file. */
export function loopDevice(bytes: number): Place & { readonly device: string } {
  const outer = plain();
  const medium = join(outer.folder, 'medium');
  writeFileSync(medium, '');
  truncateSync(medium, bytes);
  const device = system('losetup', '-f', '--show', medium).trim();
  const remove = once(() => {
    works('losetup', '-d', device);
    outer.remove();
  });
  return { folder: outer.folder, device, remove };
}

/** True where tests may mount: root in a container may not. */
export function mayMount(): boolean {
  try {
    FILE_SYSTEMS.tmpfs.make().remove();
    return true;
  } catch {
    return false;
  }
}

/** The reason why a file system cannot be mounted here, for the title of a test; empty when it can. */
export function obstacleTo(name: keyof typeof FILE_SYSTEMS): string {
  if (!works('which', FILE_SYSTEMS[name].needs)) return ` (no ${FILE_SYSTEMS[name].needs} here)`;
  try {
    FILE_SYSTEMS[name].make().remove();
    return '';
  } catch {
    return ' (mounting it is not allowed here, or the system has no such file system)';
  }
}

/** True where files can be block devices. */
export function mayLoop(): boolean {
  try {
    loopDevice(MIB).remove();
    return true;
  } catch {
    return false;
  }
}

/** True for the kind of file system whose number this is. */
export function isOn(folder: string, magic: number): boolean {
  return statfsSync(folder).type === magic;
}
