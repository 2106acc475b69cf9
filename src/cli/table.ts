/**
 * All commands: the single source of help, completion and documentation. Contains words only; implementations are
 * loaded when they run, which keeps the start fast.
 *
 * Long file: one entry for each command.
 */
import type { ArgumentSpec, CommandSpec, OptionSpec } from './spec.ts';

/** Options of every command. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { flags: '--json', description: 'print one JSON document' },
  { flags: '-q, --quiet', description: 'no warnings, notes and progress' },
  {
    flags: '--progress <MODE>',
    description: 'progress on stderr: auto (a bar on a terminal), bar, json (one object a line), none',
    values: ['auto', 'bar', 'json', 'none'],
  },
  {
    flags: '--allow <PATH>',
    description:
      'a file or directory that images may refer to, beside their own directory; "none": they may refer to nothing',
    repeat: true,
    completes: 'file',
  },
  {
    flags: '-U, --force-share',
    description: 'read images although another program may be writing them; what is read is then no snapshot',
  },
  {
    flags: '--plugin <FILE>',
    description: 'a plugin with formats, caches or filters, or a directory of files "VDPlugin*"; runs its code',
    repeat: true,
    completes: 'file',
  },
  { flags: '--no-lock', description: 'take no locks and heed none: only for images that surely nothing else has open' },
  { flags: '--debug', description: 'show where an error comes from' },
];

const FORMAT: OptionSpec = {
  flags: '-f, --format <F>',
  description: 'format of the image; found out when left out',
  completes: 'format',
};
const IMAGE: ArgumentSpec = { name: 'IMAGE', description: 'the image', completes: 'file' };
const FORCE_PARENT: OptionSpec = {
  flags: '--force',
  description: 'also when an image beside it names it as its parent',
};
const PARENT: OptionSpec = {
  flags: '--parent <P>',
  description: 'the parent of the image, where it is not found by itself; "none": the image is complete',
  completes: 'file',
};
const PARENT_FORMAT: OptionSpec = {
  flags: '--parent-format <F>',
  description: 'format of the parent',
  completes: 'format',
};
const CHAIN: OptionSpec = {
  flags: '--chain <P,…>',
  description: 'all images below the image, base first, where they are not found by themselves',
};
/** Options for the images below an image. */
const BELOW: readonly OptionSpec[] = [PARENT, PARENT_FORMAT, CHAIN];
/** Options for an image inside the named file. */
const INSIDE: readonly OptionSpec[] = [
  { flags: '--offset <N>', description: 'the image lies in the named file or disk, from this byte on' },
  { flags: '--partition <N>', description: 'the image lies in this partition of the named disk, as Linux counts them' },
];
/** Options of commands that read guest data. */
const CACHE: readonly OptionSpec[] = [
  {
    flags: '--cache <FILE>',
    description: 'keep what is read in this file, on a quick medium, for this run and the next; made when missing',
    completes: 'file',
  },
  { flags: '--cache-size <N>', description: 'bytes that a new cache file may have at most; 1G when left out' },
];
const VARIANT: OptionSpec = {
  flags: '--variant <V>',
  description: 'kind of image, such as fixed; "help" lists those of the format',
  repeat: true,
};
const BLOCK_SIZE: OptionSpec = { flags: '--block-size <N>', description: 'bytes of an allocation unit' };
const KEY_VALUE: OptionSpec = {
  flags: '--option <K=V>',
  description: 'a value for a key of the format ("vdkit formats --json" lists them)',
  repeat: true,
};
/** Options for a new image. */
const TARGET: readonly OptionSpec[] = [
  {
    flags: '-t, --to <F>',
    description: 'format of the new image; by its extension when left out',
    completes: 'format',
  },
  VARIANT,
  { flags: '--parent <P>', description: 'make a differencing image over this parent', completes: 'file' },
  PARENT_FORMAT,
  BLOCK_SIZE,
  { flags: '--comment <T>', description: 'text that is stored in the image' },
  { flags: '--uuid <U>', description: 'identity of the image; random when left out' },
  KEY_VALUE,
  { flags: '--force', description: 'replace the target when it exists' },
];

/** In the order of the help. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'info',
    summary: 'what an image says of itself',
    description:
      'Prints format, sizes, identities, parent and geometry of an image, from its headers, and the partitions of the ' +
      'disk. Changes nothing.',
    arguments: [{ name: 'IMAGE', description: 'the image', completes: 'file' }],
    options: [
      FORMAT,
      ...INSIDE,
      { flags: '--backing-chain', description: 'the parents too, base first' },
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'an internal snapshot of the image, by id or name' },
    ],
    examples: [
      { command: 'vdkit info disk.vdi', description: 'for people' },
      { command: 'vdkit info --json --backing-chain snapshot.vdi', description: 'for programs, with all parents' },
      { command: 'vdkit info disk.raw --partition 2', description: 'the image that lies in a partition' },
    ],
  },
  {
    name: 'create',
    summary: 'a new, empty image',
    description:
      'Makes a base image of SIZE bytes, or with --parent a differencing image, whose size is that of the parent when SIZE is ' +
      'left out. The image appears only when it is complete.',
    arguments: [
      { name: 'IMAGE', description: 'the new image', completes: 'file' },
      { name: 'SIZE', description: 'bytes of the disk: 512, 64K, 10M, 1.5G, 2T', optional: true },
    ],
    options: [
      ...TARGET,
      {
        flags: '--preallocation <MODE>',
        description: 'off; falloc or full: take all room now',
        values: ['off', 'metadata', 'falloc', 'full'],
      },
    ],
    examples: [
      { command: 'vdkit create disk.vdi 20G', description: 'a dynamic image' },
      { command: 'vdkit create disk.vdi 1G --variant fixed', description: 'all room taken at once' },
      { command: 'vdkit create snapshot.vdi --parent disk.vdi', description: 'a differencing image' },
    ],
  },
  {
    name: 'convert',
    summary: 'copy the content into a new image',
    description:
      'Copies what a guest sees in SRC, its parents included, into a new image DST. DST appears only when it is complete; ' +
      'after a failure or Ctrl-C nothing is left of it. "-" as SRC reads standard input, "-" as DST writes raw bytes to ' +
      'standard output.',
    arguments: [
      { name: 'SRC', description: 'the image to read, or -', completes: 'file' },
      { name: 'DST', description: 'the image to make, or -', completes: 'file' },
    ],
    options: [
      { flags: '-f, --format <F>', description: 'format of SRC; found out when left out', completes: 'format' },
      { flags: '--offset <N>', description: 'SRC lies in the named file or disk, from this byte on' },
      { flags: '--partition <N>', description: 'SRC lies in this partition of the named disk, as Linux counts them' },
      {
        flags: '--source-parent <P>',
        description: 'the parent of SRC, where it is not found by itself; "none": SRC is complete',
        completes: 'file',
      },
      { flags: '--source-parent-format <F>', description: 'format of the parent of SRC', completes: 'format' },
      { flags: '--snapshot <NAME>', description: 'an internal snapshot of SRC, by id or name' },
      ...TARGET,
      {
        flags: '--compress [METHOD]',
        description: 'compress the content: --compress, --compress=zlib or --compress=zstd',
        values: ['auto', 'zlib', 'zstd'],
        bare: 'auto',
      },
      { flags: '--size <N>', description: 'size of the new disk; smaller than SRC only with --shrink' },
      {
        flags: '--into',
        description: 'overwrite an existing image or device; what it holds behind the end of SRC stays as it is',
      },
      { flags: '--shrink', description: 'DST may be smaller than SRC, where SRC ends in zeroes; never cuts data off' },
      { flags: '--shareable', description: 'with --into: other programs may have the target open for writing, too' },
      { flags: '--threads <N>', description: 'pieces in flight at a time (default 3)' },
      { flags: '--rate-limit <N>', description: 'bytes a second at most' },
      { flags: '--salvage', description: 'go on after read errors; what cannot be read becomes zero' },
      { flags: '--sparse-size <N>', description: 'shortest run of zeroes that is left out (default 4K; 0: none)' },
      { flags: '--verify', description: 'read the result again and compare' },
      ...CACHE,
    ],
    examples: [
      { command: 'vdkit convert disk.vdi disk.raw', description: 'the formats follow from content and name' },
      { command: 'vdkit convert disk.raw disk.vdi --format raw --variant fixed', description: 'say what is what' },
      { command: 'vdkit convert disk.vdi /dev/sdx --into --to raw', description: 'onto a device' },
      { command: 'xzcat disk.raw.xz | vdkit convert - disk.vdi --format raw', description: 'from standard input' },
      { command: 'vdkit convert disk.vdi - | sha256sum', description: 'to standard output' },
      {
        command: 'vdkit convert disk.qcow2 root.raw --partition 2 --format raw',
        description: 'a partition of a disk, as a disk',
      },
    ],
  },
  {
    name: 'map',
    summary: 'where the data of a disk lies',
    description:
      'Prints which ranges of the disk hold data, read as zero or are absent, and which image and file they come from. ' +
      'IMAGE counts from 0 = base, DEPTH from 0 = the image itself.',
    arguments: [{ name: 'IMAGE', description: 'the image', completes: 'file' }],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'an internal snapshot of the image, by id or name' },
      { flags: '--start <N>', description: 'first byte of the disk (default 0)' },
      { flags: '--length <N>', description: 'bytes (default: up to the end)' },
    ],
    examples: [
      { command: 'vdkit map disk.vdi', description: 'a table' },
      { command: 'vdkit map --json --start 1M --length 64K disk.vdi', description: 'for programs, one part' },
    ],
  },
  {
    name: 'compare',
    summary: 'whether two images hold the same disk',
    description:
      'Compares what a guest would read, whatever the formats. A longer image whose tail is zero is the same, unless ' +
      '--strict. Exit status: 0 same, 1 different, 2 trouble.',
    arguments: [
      { name: 'A', description: 'one image', completes: 'file' },
      { name: 'B', description: 'the other image', completes: 'file' },
    ],
    options: [
      { flags: '-f, --format <F>', description: 'format of A; found out when left out', completes: 'format' },
      { flags: '-F, --format-b <F>', description: 'format of B; found out when left out', completes: 'format' },
      { flags: '--offset <N>', description: 'A lies in the named file or disk, from this byte on' },
      { flags: '--offset-b <N>', description: 'the same of B' },
      { flags: '--partition <N>', description: 'A lies in this partition of the named disk, as Linux counts them' },
      { flags: '--partition-b <N>', description: 'the same of B' },
      { flags: '--parent <P>', description: 'the parent of A, where it is not found by itself', completes: 'file' },
      { flags: '--parent-b <P>', description: 'the parent of B, where it is not found by itself', completes: 'file' },
      { flags: '--snapshot <NAME>', description: 'an internal snapshot of A, by id or name' },
      { flags: '--snapshot-b <NAME>', description: 'an internal snapshot of B, by id or name' },
      { flags: '-s, --strict', description: 'the sizes must be equal too' },
      ...CACHE,
    ],
    examples: [
      { command: 'vdkit compare disk.vdi disk.raw', description: 'the same content?' },
      { command: 'vdkit compare --strict --json a.vdi b.vdi', description: 'for programs' },
      {
        command: 'vdkit compare disk.qcow2 disk.qcow2 --snapshot-b monday',
        description: 'did it change since the snapshot?',
      },
    ],
    trouble: 2,
  },
  {
    name: 'check',
    summary: 'whether an image is consistent',
    description:
      'Looks for what is wrong with the structure of an image; --repair sets right what can be, after saying what. Exit ' +
      'status: 0 clean, 2 corruption, 3 leaked space only, 63 cannot be checked, 1 failed; after --repair it tells what ' +
      'is left.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE,
      { flags: '--repair', description: 'repair what can be repaired' },
      { flags: '--dry-run', description: 'with --repair: change nothing, only say what would be repaired' },
    ],
    examples: [
      { command: 'vdkit check disk.vdi', description: 'changes nothing' },
      { command: 'vdkit check disk.vdi --repair --dry-run', description: 'what would a repair do?' },
      { command: 'vdkit check disk.vdi --repair', description: 'do it' },
    ],
    unsupported: 63,
  },
  {
    name: 'copy',
    summary: 'copy a chain image by image, or move an image',
    description:
      'Copies IMAGE and all its parents, each into an image of its own, so that the copy is a chain, too. TARGET is a ' +
      'directory, or a file for an image without a parent. With --move the image is renamed; where that is not enough ' +
      'all its files are copied byte by byte, read back, and then removed. With --move and --to its content is copied ' +
      'and compared, which is refused when the other format cannot keep snapshots or bitmaps that it has.',
    arguments: [
      { name: 'IMAGE', description: 'the last image of the chain', completes: 'file' },
      { name: 'TARGET', description: 'the directory or file of the copy', completes: 'file' },
    ],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '-t, --to <F>', description: 'format of the copies; as it is when left out', completes: 'format' },
      { flags: '--move', description: 'one image: the original is gone afterwards' },
      { flags: '--verify', description: 'read each copy again and compare' },
      { flags: '--force', description: 'replace files that exist; with --move, also when other images depend on it' },
    ],
    examples: [
      { command: 'vdkit copy snapshot.vdi /backup/', description: 'a chain, with its snapshots' },
      { command: 'vdkit copy disk.vdi /other/disk/server.vdi --move', description: 'to another file system' },
    ],
  },
  {
    name: 'merge',
    summary: 'merge images of a chain',
    description:
      'Moves the content of images into their child or their parent and deletes their files. Left out, --from is the ' +
      'image and --to-image its parent. With --from below --to-image content moves into the child, else into the ' +
      'parent. What a guest reads stays the same. After Ctrl-C the chain is whole; run it again to go on.',
    arguments: [{ name: 'IMAGE', description: 'the last image of the chain', completes: 'file' }],
    options: [
      FORMAT,
      ...BELOW,
      { flags: '--from <N>', description: 'number of the image that is merged away, 0 = base, or "last"' },
      { flags: '--to-image <N>', description: 'number of the image that stays' },
      { flags: '--keep', description: 'leave the files of merged images where they are' },
      { flags: '--dry-run', description: 'only say what would be merged' },
      { flags: '--force', description: 'also when an image outside the chain depends on one that changes or goes' },
    ],
    examples: [
      { command: 'vdkit merge snapshot.vdi', description: 'put what changed since the snapshot into its parent' },
      { command: 'vdkit merge last.vdi --from 1 --to-image 3', description: 'images 1 and 2 go into image 3' },
      { command: 'vdkit merge last.vdi --from 0 --to-image last --dry-run', description: 'which files would go?' },
    ],
  },
  {
    name: 'compact',
    summary: 'make the file of an image smaller',
    description:
      'Gives up blocks that hold only zeroes or what the parent holds anyway, and packs the rest. What a guest reads ' +
      'stays the same. After Ctrl-C the image is whole; run it again to go on.',
    arguments: [IMAGE],
    options: [FORMAT, ...INSIDE, ...BELOW],
    examples: [
      { command: 'vdkit compact disk.vdi', description: 'zero the free space inside the guest first' },
      {
        command: 'vdkit compact snapshot.vdi --json',
        description: 'a differencing image, with the sizes for programs',
      },
    ],
  },
  {
    name: 'resize',
    summary: 'change the size of a disk',
    description:
      'Makes the disk SIZE bytes large, or larger or smaller by +SIZE or -SIZE. New space reads zero. Getting smaller is ' +
      'refused where data would be lost, unless --shrink. Partitions and file systems inside stay as they are.',
    arguments: [IMAGE, { name: 'SIZE', description: 'bytes: 512, 64K, 10M, 1.5G, 2T; +1G, -1G: by so many' }],
    options: [FORMAT, ...INSIDE, ...BELOW, { flags: '--shrink', description: 'give up the data behind the new end' }],
    examples: [
      { command: 'vdkit resize disk.vdi 20G', description: 'to a size' },
      { command: 'vdkit resize disk.vdi +1G', description: 'by a size' },
      { command: 'vdkit resize disk.vdi -512M --shrink', description: 'cut the end off, whatever it holds' },
    ],
  },
  {
    name: 'rebase',
    summary: 'give a differencing image another parent',
    description:
      'Makes IMAGE a child of another parent, or of none with --to none. What a guest reads stays the same: what differs ' +
      'between the old parent and the new one is stored in IMAGE first. With --unsafe only the link changes, and what is ' +
      'read may change, too. After Ctrl-C the image has its old parent and reads as before.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      { flags: '--to <P>', description: 'the new parent, or "none": the image becomes a base', completes: 'file' },
      { flags: '--to-format <F>', description: 'format of the new parent', completes: 'format' },
      {
        flags: '--parent <P>',
        description: 'the parent that the image has now, where it is not found by itself',
        completes: 'file',
      },
      PARENT_FORMAT,
      CHAIN,
      { flags: '--unsafe', description: 'only change the link: the new parent holds the same already' },
    ],
    examples: [
      { command: 'vdkit rebase snapshot.qcow2 --to other.qcow2', description: 'onto another image' },
      { command: 'vdkit rebase snapshot.vdi --to none', description: 'an image that needs no parent any more' },
      {
        command: 'vdkit rebase snapshot.qcow2 --to moved/base.qcow2 --unsafe',
        description: 'the parent was moved, and is the same',
      },
    ],
  },
  {
    name: 'commit',
    summary: 'put what an image holds into its parent',
    description:
      'Stores what differs in IMAGE in its parent, or with --base in an image further down, and empties IMAGE, which ' +
      'stays a child of that one. A parent that is smaller grows first. What a guest reads of IMAGE stays the same. ' +
      'After Ctrl-C all images read as before; run it again to go on.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...BELOW,
      {
        flags: '--base <P>',
        description: 'the image that it is stored in: its number, 0 = base, or its name',
        completes: 'file',
      },
      { flags: '-d, --keep', description: 'leave in IMAGE what it holds' },
      {
        flags: '--force',
        description: 'also when other images, or internal snapshots, depend on one that changes',
      },
    ],
    examples: [
      { command: 'vdkit commit snapshot.qcow2', description: 'into its parent' },
      { command: 'vdkit commit last.qcow2 --base 0', description: 'through all images, into the lowest one' },
      { command: 'vdkit commit snapshot.vdi --keep', description: 'for an image that is deleted next' },
    ],
  },
  {
    name: 'amend',
    summary: 'change options that an image was made with',
    description:
      'Changes options of an image that exists, as "vdkit formats --json" lists them (amendKeys). What a guest reads ' +
      'stays the same. What cannot be changed is refused before anything is. After Ctrl-C the image is whole; run it again ' +
      'to go on. Elsewhere convert makes a new image with other options.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE,
      {
        flags: '-o, --option <K=V>',
        description: 'the option and its new value; several with commas between; two commas are one in a value',
        repeat: true,
      },
    ],
    examples: [
      { command: 'vdkit amend disk.qcow2 -o compat=0.10', description: 'for a program that knows only version 2' },
      { command: 'vdkit amend disk.qcow2 -o compat=1.1,refcount_bits=64', description: 'several at a time' },
      {
        command: 'vdkit amend snapshot.qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2',
        description: 'another name of the parent, which is not looked at',
      },
    ],
  },
  {
    name: 'set',
    summary: 'change what an image says of itself',
    description:
      'Changes comment, identities, geometry or parent of an image, all at once. Its content stays as it is. Warns of ' +
      'images beside it that name it as their parent.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE,
      { flags: '--comment <T>', description: 'text that is stored in the image; empty: none' },
      { flags: '--uuid <U>', description: 'identity of the image, or random, or null' },
      { flags: '--modification-uuid <U>', description: 'identity of its content, or random, or null' },
      {
        flags: '--parent <P>',
        description: 'store the identities of this image as those of the parent; "none": become a base',
        completes: 'file',
      },
      PARENT_FORMAT,
      { flags: '--parent-uuid <U>', description: 'identity of the parent, or null: without parent' },
      { flags: '--parent-modification-uuid <U>', description: "identity of the parent's content, or null" },
      { flags: '--geometry <G>', description: 'cylinders/heads/sectors of the drive, or none' },
      { flags: '--logical-geometry <G>', description: 'cylinders/heads/sectors that a BIOS shows, or none' },
    ],
    examples: [
      { command: 'vdkit set copy.vdi --uuid random', description: 'a copy that is a disk of its own' },
      { command: 'vdkit set disk.vdi --geometry 1024/16/63', description: 'cylinders, heads, sectors' },
      { command: 'vdkit set snapshot.vdi --parent disk.vdi', description: 'link it to its parent again' },
    ],
  },
  {
    name: 'rename',
    summary: 'give an image another name',
    description:
      'Gives IMAGE the name NEW, also in another directory of the same file system. Never replaces anything. Names that ' +
      'it stores of its parent and its data file, and names of it in images beside it, change with it. Refuses while an ' +
      'image beside it has it as its parent by UUID, or cannot be given the new name, unless --force.',
    arguments: [IMAGE, { name: 'NEW', description: 'the new name', completes: 'file' }],
    options: [FORMAT, FORCE_PARENT],
    examples: [{ command: 'vdkit rename disk.vdi server.vdi', description: 'in the same directory' }],
  },
  {
    name: 'delete',
    summary: 'remove an image',
    description:
      'Removes all files of an image. Refuses while an image beside it names it as its parent, unless --force, and ' +
      'what is no image.',
    arguments: [IMAGE],
    options: [FORMAT, FORCE_PARENT],
    examples: [{ command: 'vdkit delete snapshot.vdi', description: 'its parent stays' }],
  },
  {
    name: 'snapshot',
    summary: 'snapshots inside an image',
    description:
      'ACTION is list, create, apply, delete or rename. create keeps the disk as it is now under NAME; apply makes it ' +
      'again what it was, its size too, and what was written since is lost; rename takes the old name and the new one. ' +
      'NAME is an id or a name. A power cut leaves the state before or the one after. convert, map, compare and info look into one ' +
      'with --snapshot.',
    arguments: [
      {
        name: 'ACTION',
        description: 'list, create, apply, delete or rename',
        values: ['list', 'create', 'apply', 'delete', 'rename'],
      },
      IMAGE,
      { name: 'NAME...', description: 'the snapshot; for rename its new name, too', optional: true },
    ],
    options: [FORMAT, ...INSIDE, ...BELOW],
    examples: [
      { command: 'vdkit snapshot create disk.qcow2 monday', description: 'before you try something' },
      { command: 'vdkit snapshot list disk.qcow2', description: 'which there are' },
      { command: 'vdkit snapshot apply disk.qcow2 monday', description: 'the disk as it was on monday' },
      { command: 'vdkit snapshot rename disk.qcow2 monday good', description: 'another name' },
      { command: 'vdkit convert disk.qcow2 monday.raw --snapshot good', description: 'a copy of one' },
    ],
  },
  {
    name: 'bitmap',
    summary: 'bitmaps of changes inside an image',
    description:
      'ACTION is list, add, clear, enable, disable, merge or remove. Programs that write an image can record in a bitmap ' +
      'which parts they change, for backups of what changed since. merge takes the bitmap that changes and those whose ' +
      'bits it gets. What is enabled records; a program that ends without closing the image leaves it inconsistent.',
    arguments: [
      {
        name: 'ACTION',
        description: 'list, add, clear, enable, disable, merge or remove',
        values: ['list', 'add', 'clear', 'enable', 'disable', 'merge', 'remove'],
      },
      IMAGE,
      { name: 'NAME...', description: 'the bitmap; for merge those it is merged with, too', optional: true },
    ],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '--granularity <N>', description: 'add: bytes for a bit, a power of two from 512 to 2G' },
      { flags: '--disabled', description: 'add: it does not record yet' },
    ],
    examples: [
      { command: 'vdkit bitmap add disk.qcow2 since-monday', description: 'record from now on' },
      { command: 'vdkit bitmap list disk.qcow2', description: 'which there are' },
      { command: 'vdkit bitmap merge disk.qcow2 week monday tuesday', description: 'what changed on either day' },
      { command: 'vdkit bitmap remove disk.qcow2 since-monday', description: 'one that nobody needs' },
    ],
  },
  {
    name: 'measure',
    summary: 'how many bytes a new image will take',
    description:
      'Says how large a new image becomes with the content of IMAGE, or without content for --size, and how large it can ' +
      'become. Zeroes that IMAGE stores are counted, since nothing is read.',
    arguments: [{ ...IMAGE, optional: true }],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'an internal snapshot of the image, by id or name' },
      { flags: '-t, --to <F>', description: 'format of the new image', completes: 'format' },
      VARIANT,
      BLOCK_SIZE,
      KEY_VALUE,
      { flags: '--size <N>', description: 'size of the new disk' },
    ],
    examples: [
      { command: 'vdkit measure disk.raw --to vdi', description: 'what converting it will take' },
      { command: 'vdkit measure --size 20G --to vdi --variant fixed', description: 'an empty image' },
    ],
  },
  {
    name: 'formats',
    summary: 'the formats and what can be done with them',
    description:
      'Lists all formats with what vdkit can do, their extensions and their variants; with --json all that is known of ' +
      'them, of cache formats and of filters.',
    arguments: [],
    options: [],
    examples: [
      { command: 'vdkit formats', description: 'a table' },
      { command: 'vdkit formats --json', description: 'everything, with the keys for --option' },
    ],
  },
  {
    name: 'filters',
    summary: 'the filters and what they take',
    description:
      'Lists the filters that a program can put between a disk and its images, with their options. Filters are used ' +
      'through the library.',
    arguments: [],
    options: [],
    examples: [
      { command: 'vdkit filters', description: 'a table' },
      { command: 'vdkit filters --json', description: 'for programs' },
    ],
  },
  {
    name: 'cache',
    summary: 'cache files for what is read of images',
    description:
      'ACTION is create, info or drop. A cache file on a quick medium keeps what is read of images on a slow one; ' +
      'commands that read take it with --cache. info says what is in it and whether it is in order. drop empties it, ' +
      'with --remove the file goes. It never holds anything that the images do not.',
    arguments: [
      { name: 'ACTION', description: 'create, info or drop', values: ['create', 'info', 'drop'] },
      { name: 'FILE', description: 'the cache file', completes: 'file' },
      { name: 'SIZE', description: 'create: bytes that it may have at most, from 2M to 64G', optional: true },
    ],
    options: [
      { flags: '--fixed', description: 'create: take all the room now' },
      { flags: '--force', description: 'create: replace the file when it exists' },
      { flags: '--remove', description: 'drop: the file, too' },
    ],
    examples: [
      { command: 'vdkit cache create /ssd/disk.vci 4G', description: 'an empty one' },
      { command: 'vdkit compare /net/a.vdi b.vdi --cache /ssd/disk.vci', description: 'use it' },
      { command: 'vdkit cache info /ssd/disk.vci', description: 'how full is it?' },
      { command: 'vdkit cache drop /ssd/disk.vci --remove', description: 'be done with it' },
    ],
  },
  {
    name: 'completion',
    summary: 'completion for a shell',
    description: 'Prints a script that teaches your shell the commands and options of vdkit.',
    arguments: [{ name: 'SHELL', description: 'bash, zsh or fish', values: ['bash', 'zsh', 'fish'] }],
    options: [],
    examples: [
      { command: 'source <(vdkit completion bash)', description: 'in ~/.bashrc' },
      { command: 'vdkit completion zsh > ~/.zfunc/_vdkit', description: 'for zsh, with ~/.zfunc in fpath' },
      { command: 'vdkit completion fish > ~/.config/fish/completions/vdkit.fish', description: 'for fish' },
    ],
  },
];
