/** Formats that are recognised but cannot be opened yet, in the probing order of VirtualBox, then those it lacks. */
import type { Format } from '../../image/contract.ts';
import { ovf } from './ovf.ts';
import { tar } from './tar.ts';
import { toc } from './toc.ts';
import { vci } from './vci.ts';
import { SIGNED_WRAPPERS } from './wrappers.ts';
import { zip } from './zip.ts';

/** Formats whose `open` throws `unsupported` with the name of the format. */
export const RECOGNISED: readonly Format[] = [vci, toc, ovf, tar, zip, ...SIGNED_WRAPPERS];
