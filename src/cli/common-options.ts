/** Options and arguments that several commands have: words only, as in table.ts. */
import type { ArgumentSpec, OptionSpec } from './spec.ts';

/** Options of every command. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { flags: '--json', description: 'print one JSON document' },
  { flags: '-q, --quiet', description: 'suppress warnings, notes and progress' },
  {
    flags: '--progress <MODE>',
    description: 'progress on stderr: auto (a bar on a terminal), bar, json (one object per line), none',
    values: ['auto', 'bar', 'json', 'none'],
  },
  {
    flags: '--allow <PATH>',
    description:
      'file or directory that images may refer to, in addition to their own directory; "none": no files at all',
    repeat: true,
    completes: 'file',
  },
  {
    flags: '-U, --force-share',
    description: 'read images that another program may be writing; the data read may be inconsistent',
  },
  {
    flags: '--plugin <FILE>',
    description: 'plugin with formats, caches or filters, or a directory of "VDPlugin*" files; runs its code',
    repeat: true,
    completes: 'file',
  },
  { flags: '--no-lock', description: 'do not lock; use only if no other program has the image open' },
  { flags: '--debug', description: 'show the stack of an error' },
];

export const FORMAT: OptionSpec = {
  flags: '-f, --format <F>',
  description: 'format of the image (default: detected)',
  completes: 'format',
};
export const IMAGE: ArgumentSpec = { name: 'IMAGE', description: 'image file', completes: 'file' };
export const FORCE_PARENT: OptionSpec = {
  flags: '--force',
  description: 'proceed even if an image in the same directory names it as its parent',
};
export const PARENT: OptionSpec = {
  flags: '--parent <P>',
  description: 'parent of the image (default: found by name or UUID); "none": read the image alone',
  completes: 'file',
};
export const PARENT_FORMAT: OptionSpec = {
  flags: '--parent-format <F>',
  description: 'format of the parent',
  completes: 'format',
};
export const CHAIN: OptionSpec = {
  flags: '--chain <P,…>',
  description: 'all images below the image, base first (default: found by name or UUID)',
};
/** Options for the images below an image. */
export const BELOW: readonly OptionSpec[] = [PARENT, PARENT_FORMAT, CHAIN];
/** Options for an image inside the named file, which may be written. */
export const INSIDE_WRITTEN: readonly OptionSpec[] = [
  { flags: '--offset <N>', description: 'the image starts at this byte of the named file or disk' },
  { flags: '--partition <N>', description: 'the image is in this partition of the named disk (Linux numbering)' },
];
/** The same for an image that is read alone. */
export const INSIDE: readonly OptionSpec[] = [
  ...INSIDE_WRITTEN,
  {
    flags: '--member <NAME>',
    description: 'the image is this member of the named archive, zip or tar (default: the only disk in it)',
  },
];
/** The same for the source of a conversion. */
export const SOURCE_INSIDE: readonly OptionSpec[] = [
  { flags: '--offset <N>', description: 'SRC starts at this byte of the named file or disk' },
  { flags: '--partition <N>', description: 'SRC is in this partition of the named disk (Linux numbering)' },
  {
    flags: '--member <NAME>',
    description: 'SRC is this member of the named archive, zip or tar (default: the only disk in it)',
  },
];
/** The same for two images that are compared. */
export const COMPARED_INSIDE: readonly OptionSpec[] = [
  { flags: '--offset <N>', description: 'A starts at this byte of the named file or disk' },
  { flags: '--offset-b <N>', description: 'B starts at this byte of the named file or disk' },
  { flags: '--partition <N>', description: 'A is in this partition of the named disk (Linux numbering)' },
  { flags: '--partition-b <N>', description: 'B is in this partition of the named disk (Linux numbering)' },
  { flags: '--member <NAME>', description: 'A is this member of the named archive (default: the only disk in it)' },
  { flags: '--member-b <NAME>', description: 'B is this member of the named archive (default: the only disk in it)' },
];
/** Options of commands that read guest data. */
export const CACHE: readonly OptionSpec[] = [
  {
    flags: '--cache <FILE>',
    description: 'cache data read from the image in this file on a fast medium; created if missing',
    completes: 'file',
  },
  { flags: '--cache-size <N>', description: 'maximum size of a new cache file (default: 1G)' },
];
export const VARIANT: OptionSpec = {
  flags: '--variant <V>',
  description: 'variant of the format, such as fixed or fixed,split; "help" lists them',
  repeat: true,
};
export const BLOCK_SIZE: OptionSpec = { flags: '--block-size <N>', description: 'allocation unit in bytes' };
export const KEY_VALUE: OptionSpec = {
  flags: '--option <K=V>',
  description: 'format option ("vdkit formats --json" lists them)',
  repeat: true,
};
export const SHRINK: OptionSpec = { flags: '--shrink', description: 'discard data past the new end' };
export const PREALLOCATION: OptionSpec = {
  flags: '--preallocation <MODE>',
  description: 'space allocated at creation: off; falloc or full: all of it',
  values: ['off', 'metadata', 'falloc', 'full'],
};
export const NO_HOLES: OptionSpec = {
  flags: '--no-holes',
  description: 'write files without holes: Windows attaches no VHD or VHDX that is sparse on NTFS',
};
/** Options of `create` for an ISO image. */
export const FROM_DIRECTORY: readonly OptionSpec[] = [
  {
    flags: '--from <DIR>',
    description: 'make an ISO 9660 image (Joliet, Rock Ridge) of the files in this directory',
    completes: 'file',
  },
  { flags: '--label <T>', description: 'with --from: name of the volume (default: the name of the directory)' },
  { flags: '--boot <FILE>', description: 'with --from: file in DIR that a BIOS starts, as isolinux/isolinux.bin' },
  { flags: '--boot-info-table', description: 'with --boot: write its place into the file, for ISOLINUX and GRUB' },
  {
    flags: '--boot-efi <FILE>',
    description: 'with --from: file in DIR that UEFI starts, an image of a FAT file system',
  },
];
/** Options of `create` for the description of a device. */
export const RAW_DEVICE: readonly OptionSpec[] = [
  {
    flags: '--raw-device <DEVICE>',
    description: 'describe this disk of the host instead (VMDK); open the image with --allow DEVICE',
    completes: 'file',
  },
  {
    flags: '--partitions <N,N>',
    description: 'with --raw-device: show these partitions, and zeroes for the others',
  },
  { flags: '--raw-writable', description: 'with --raw-device: the image permits writing to the device' },
];
/** Options of `convert` for what is read of the source. */
export const SOURCE_PART: readonly OptionSpec[] = [
  { flags: '--snapshot <NAME>', description: 'internal snapshot of SRC to read, by id or name' },
  { flags: '--track <N>', description: 'track of SRC to read, a disc (default: all of them)' },
  {
    flags: '--sectors <FORM>',
    description:
      'sectors of SRC, a disc: raw, as they are stored, or data, the user data (default: raw; of one track: data)',
    values: ['raw', 'data'],
  },
];
/** Options for a new image. */
export const TARGET: readonly OptionSpec[] = [
  {
    flags: '-t, --to <F>',
    description: 'format of the new image (default: from its extension)',
    completes: 'format',
  },
  VARIANT,
  { flags: '--parent <P>', description: 'create a differencing image over this parent', completes: 'file' },
  PARENT_FORMAT,
  BLOCK_SIZE,
  { flags: '--comment <T>', description: 'comment stored in the image' },
  { flags: '--uuid <U>', description: 'UUID of the image (default: random)' },
  KEY_VALUE,
  NO_HOLES,
  { flags: '--force', description: 'replace an existing target' },
];
