/** Location of an open file, asked by descriptor, so that a swapped name cannot deceive. */
import type { StoragePlace } from '../contract.ts';
import { calls } from './calls.ts';
import { errorCode } from './errno.ts';
import { fileKey } from './key.ts';

/**
 * File systems whose files the kernel makes up (`linux/magic.h`): proc, sysfs, debugfs, tracefs, securityfs, selinuxfs,
 * smackfs, apparmorfs, cgroup, cgroup2, configfs, efivarfs, pstore, bpf, devpts, binfmt_misc, nsfs, fusectl, resctrl,
 * usbfs, openpromfs, xenfs, mqueue. Reading one can tell secrets of the system, or change its state.
 */
const MADE_UP: ReadonlySet<number> = new Set([
  0x9fa0, 0x6265_6572, 0x6462_6720, 0x7472_6163, 0x7363_6673, 0xf97c_ff8c, 0x4341_5d53, 0x5a3c_69f0, 0x0027_e0eb,
  0x6367_7270, 0x6265_6570, 0xde5e_81e4, 0x6165_676c, 0xcafe_4a11, 0x1cd1, 0x4249_4e4d, 0x6e73_6673, 0x6573_5543,
  0x0765_5821, 0x9fa2, 0x9fa1, 0xabba_1974, 0x1980_0202,
]);
/** A parent directory may be renamed between two looks. */
const ATTEMPTS = 10;

/** The location of an open file; null where the system does not tell: not Linux, or no /proc. */
export async function placeOf(fd: number): Promise<StoragePlace | null> {
  if (process.platform !== 'linux') return null;
  const link = `/proc/self/fd/${fd}`;
  const key = fileKey(await calls.fstat(fd, { bigint: true }));
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const name = await targetOf(link);
    if (name === null) return null;
    const named = await calls.stat(name, { bigint: true }).catch(() => null);
    if (named !== null && fileKey(named) === key) return { name, ordinary: await isOrdinary(link) };
  }
  return { name: null, ordinary: await isOrdinary(link) };
}

async function targetOf(link: string): Promise<string | null> {
  try {
    return await calls.readlink(link);
  } catch (error) {
    // The descriptor is open, so it is /proc that is missing.
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}

async function isOrdinary(link: string): Promise<boolean> {
  const { type } = await calls.statfs(link);
  return !MADE_UP.has(type >>> 0);
}
