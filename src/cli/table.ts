/**
 * All commands: the single source of help, completion and documentation. Contains words only; implementations are
 * loaded when they run, which keeps the start fast.
 */
import {
  BELOW,
  BLOCK_SIZE,
  CACHE,
  CHAIN,
  COMPARED_INSIDE,
  FORCE_PARENT,
  FORMAT,
  FROM_DIRECTORY,
  IMAGE,
  INSIDE,
  INSIDE_WRITTEN,
  KEY_VALUE,
  NO_HOLES,
  PARENT_FORMAT,
  PREALLOCATION,
  RAW_DEVICE,
  SHRINK,
  SOURCE_INSIDE,
  SOURCE_PART,
  TARGET,
  VARIANT,
} from './common-options.ts';
import type { CommandSpec } from './spec.ts';

/** Levels of compression. */
const LEVELS = ['1', '2', '3', '4', '5', '6', '7', '8', '9'];

/** In the order of the help. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    name: 'info',
    summary: 'show image metadata',
    description:
      'Prints format, sizes, identities, parent and geometry from the headers of an image, and the partition table ' +
      'of the disk. Changes nothing.',
    arguments: [{ name: 'IMAGE', description: 'image file', completes: 'file' }],
    options: [
      FORMAT,
      ...INSIDE,
      { flags: '--backing-chain', description: 'show the parents too, base first' },
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'internal snapshot to read, by id or name' },
    ],
    examples: [
      { command: 'vdkit info disk.vdi', description: 'a report for people' },
      { command: 'vdkit info --json --backing-chain snapshot.vdi', description: 'JSON, with all parents' },
      { command: 'vdkit info disk.raw --partition 1', description: 'an image inside a partition' },
    ],
  },
  {
    name: 'create',
    summary: 'create an empty image',
    description:
      'Creates a base image of SIZE bytes, or with --parent a differencing image. SIZE defaults to the size of the ' +
      'parent. With --from the image is an ISO 9660 file system with the files of a directory. It appears only when it is ' +
      'complete.',
    arguments: [
      { name: 'IMAGE', description: 'new image file', completes: 'file' },
      { name: 'SIZE', description: 'size of the disk in bytes: 512, 64K, 10M, 1.5G, 2T', optional: true },
    ],
    options: [...TARGET, PREALLOCATION, ...FROM_DIRECTORY, ...RAW_DEVICE],
    examples: [
      { command: 'vdkit create disk.vdi 20G', description: 'a dynamic image' },
      { command: 'vdkit create disk.vdi 1G --variant fixed', description: 'all space allocated at once' },
      { command: 'vdkit create snapshot.vdi --parent disk.vdi', description: 'a differencing image' },
      {
        command: 'vdkit create disk.vmdk --raw-device /dev/sdb --partitions 1',
        description: 'one partition of a disk of the host',
      },
      { command: 'vdkit create files.iso --from files', description: 'an ISO image of the files in a directory' },
    ],
  },
  {
    name: 'convert',
    summary: 'copy a disk into a new image',
    description:
      'Copies the disk that a guest sees in SRC, parents included, into a new image DST. DST appears only when it ' +
      'is complete; a failure or Ctrl-C leaves nothing behind. "-" as SRC reads standard input, "-" as DST writes ' +
      'raw bytes to standard output, or with --to an image that is written in order. Exit status: 0 done, 2 done, but parts could not be read (--salvage), 1 failed.',
    arguments: [
      { name: 'SRC', description: 'image to read, or -', completes: 'file' },
      { name: 'DST', description: 'image to create, or -', completes: 'file' },
    ],
    options: [
      { flags: '-f, --format <F>', description: 'format of SRC (default: detected)', completes: 'format' },
      ...SOURCE_INSIDE,
      {
        flags: '--source-parent <P>',
        description: 'parent of SRC (default: found by name or UUID); "none": read SRC alone',
        completes: 'file',
      },
      { flags: '--source-parent-format <F>', description: 'format of the parent of SRC', completes: 'format' },
      ...SOURCE_PART,
      ...TARGET,
      {
        flags: '--compress [METHOD]',
        description: 'compress the data; methods: zlib, zstd; levels of VMDK streams: 1 (fast) to 9 (small)',
        values: ['auto', 'zlib', 'zstd', ...LEVELS],
        bare: 'auto',
        others: 'zlib|zstd|1..9',
      },
      { flags: '--size <N>', description: 'size of the new disk; smaller than SRC only with --shrink' },
      {
        flags: '--into',
        description: 'overwrite an existing image or device; data past the end of SRC is kept',
      },
      { flags: '--shrink', description: 'allow DST to be smaller if SRC ends in zeroes; never discards data' },
      { flags: '--shareable', description: 'with --into: allow other programs to have the target open for writing' },
      { flags: '--threads <N>', description: 'number of concurrent requests (default: 3)' },
      { flags: '--rate-limit <N>', description: 'maximum bytes per second (default: unlimited)' },
      { flags: '--salvage', description: 'continue after read errors; unreadable ranges become zero' },
      { flags: '--sparse-size <N>', description: 'shortest run of zeroes to skip (default: 4K; 0: write zeroes)' },
      { flags: '--verify', description: 'read the target back and compare' },
      ...CACHE,
    ],
    examples: [
      { command: 'vdkit convert disk.vdi disk.raw', description: 'formats from content and file name' },
      { command: 'vdkit convert disk.raw disk.vdi --format raw --variant fixed', description: 'everything explicit' },
      { command: 'vdkit convert disk.vdi /dev/sdx --into --to raw', description: 'onto a device' },
      { command: 'xzcat disk.raw.xz | vdkit convert - disk.vdi --format raw', description: 'from standard input' },
      { command: 'cat stream.vmdk | vdkit convert - disk.vdi', description: 'without a temporary file: a VMDK stream' },
      { command: 'vdkit convert disk.qcow2 disk.vhd --variant azure', description: 'for an upload to Azure' },
      { command: 'vdkit convert disk.qcow2 disk.vhdx --no-holes', description: 'onto a share, for Hyper-V' },
      { command: 'vdkit convert disk.vdi - | sha256sum', description: 'to standard output' },
      {
        command: 'vdkit convert disk.vdi - --to vmdk --variant stream > disk.vmdk',
        description: 'an image that is written in order',
      },
      {
        command: 'vdkit convert disk.qcow2 root.raw --partition 1 --format raw',
        description: 'one partition as a disk image',
      },
    ],
  },
  {
    name: 'map',
    summary: 'show the allocation map of a disk',
    description:
      'Prints the ranges of the disk that hold data, read as zero or are absent, with the image and file that each ' +
      'comes from. IMAGE counts from 0 = base, DEPTH from 0 = the image itself. Ranges that cannot be read are ' +
      'damaged, with the reason. Exit status: 0 done, 2 done, but some are damaged, 1 failed.',
    arguments: [{ name: 'IMAGE', description: 'image file', completes: 'file' }],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'internal snapshot to read, by id or name' },
      { flags: '--start <N>', description: 'first byte of the disk (default: 0)' },
      { flags: '--length <N>', description: 'length in bytes (default: up to the end)' },
    ],
    examples: [
      { command: 'vdkit map disk.vdi', description: 'a table' },
      { command: 'vdkit map --json --start 1M --length 64K disk.vdi', description: 'one range as JSON' },
    ],
  },
  {
    name: 'compare',
    summary: 'compare the disks in two images',
    description:
      'Compares the data that a guest would read, in any formats. A longer image whose tail is zero counts as the ' +
      'same, unless --strict. Exit status: 0 same, 1 different, 2 trouble.',
    arguments: [
      { name: 'A', description: 'first image', completes: 'file' },
      { name: 'B', description: 'second image', completes: 'file' },
    ],
    options: [
      { flags: '-f, --format <F>', description: 'format of A (default: detected)', completes: 'format' },
      { flags: '-F, --format-b <F>', description: 'format of B (default: detected)', completes: 'format' },
      ...COMPARED_INSIDE,
      { flags: '--parent <P>', description: 'parent of A (default: found by name or UUID)', completes: 'file' },
      { flags: '--parent-b <P>', description: 'parent of B (default: found by name or UUID)', completes: 'file' },
      { flags: '--snapshot <NAME>', description: 'internal snapshot of A to read, by id or name' },
      { flags: '--snapshot-b <NAME>', description: 'internal snapshot of B to read, by id or name' },
      { flags: '-s, --strict', description: 'require equal sizes' },
      ...CACHE,
    ],
    examples: [
      { command: 'vdkit compare disk.vdi disk.raw', description: 'the same disk?' },
      { command: 'vdkit compare --strict --json a.vdi b.vdi', description: 'a result for scripts' },
      {
        command: 'vdkit compare disk.qcow2 disk.qcow2 --snapshot-b monday',
        description: 'changes since a snapshot?',
      },
    ],
    trouble: 2,
  },
  {
    name: 'check',
    summary: 'check the consistency of an image',
    description:
      'Checks the metadata of an image; --repair prints a plan, then fixes the errors that can be fixed. Exit ' +
      'status: 0 clean, 2 corruption, 3 leaked space only, 63 check not supported, 1 failed; after --repair it ' +
      'reflects the errors that are left.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE,
      { flags: '--repair', description: 'fix all errors that can be fixed' },
      { flags: '--dry-run', description: 'with --repair: change nothing, print the plan' },
    ],
    examples: [
      { command: 'vdkit check disk.vdi', description: 'read-only check' },
      { command: 'vdkit check disk.vdi --repair --dry-run', description: 'show the repair plan' },
      { command: 'vdkit check disk.vdi --repair', description: 'repair' },
    ],
    unsupported: 63,
  },
  {
    name: 'copy',
    summary: 'copy a chain image by image, or move an image',
    description:
      'Copies IMAGE and all its parents, each into a separate image, so that the copy is a chain as well. TARGET is a ' +
      'directory, or a file for an image without a parent. With --move the image is renamed; across file systems all ' +
      'its files are copied byte by byte, verified, and then deleted. With --move and --to its data is converted and ' +
      'compared; refused if the other format cannot store its snapshots or bitmaps.',
    arguments: [
      { name: 'IMAGE', description: 'last image of the chain', completes: 'file' },
      { name: 'TARGET', description: 'directory or file of the copy', completes: 'file' },
    ],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '-t, --to <F>', description: 'format of the copies (default: unchanged)', completes: 'format' },
      { flags: '--move', description: 'move a single image: the original is deleted' },
      NO_HOLES,
      { flags: '--verify', description: 'read each copy back and compare' },
      {
        flags: '--force',
        description: 'replace existing files; with --move, proceed even if other images depend on it',
      },
    ],
    examples: [
      { command: 'vdkit copy snapshot.vdi /backup/', description: 'a chain with all its images' },
      { command: 'vdkit copy disk.vdi /other/disk/server.vdi --move', description: 'to another file system' },
    ],
  },
  {
    name: 'merge',
    summary: 'merge images of a chain',
    description:
      'Moves the data of images into their child or their parent and deletes their files. By default the image is ' +
      'merged into its parent. With --from below --to-image data moves into the child, otherwise into the parent. ' +
      'The disk reads the same afterwards. After Ctrl-C the chain is intact; run the command again to continue.',
    arguments: [{ name: 'IMAGE', description: 'last image of the chain', completes: 'file' }],
    options: [
      FORMAT,
      ...BELOW,
      {
        flags: '--from <N>',
        description: 'image to merge and delete: its number, 0 = base, or "last" (default: IMAGE)',
      },
      {
        flags: '--to-image <N>',
        description: 'image that receives the data: its number or "last" (default: the parent of IMAGE)',
      },
      { flags: '--keep', description: 'keep the files of merged images' },
      { flags: '--dry-run', description: 'print the plan and change nothing' },
      {
        flags: '--force',
        description: 'proceed even if an image outside the chain depends on a changed or deleted one',
      },
    ],
    examples: [
      { command: 'vdkit merge snapshot.vdi', description: 'merge all changes since the snapshot into the parent' },
      { command: 'vdkit merge last.vdi --from 1 --to-image 3', description: 'merge images 1 and 2 into image 3' },
      {
        command: 'vdkit merge last.vdi --from 0 --to-image last --dry-run',
        description: 'show the files that would be deleted',
      },
    ],
  },
  {
    name: 'compact',
    summary: 'shrink the file of an image',
    description:
      'Frees blocks that contain only zeroes or the same data as the parent, and packs the rest. The disk reads the ' +
      'same afterwards. After Ctrl-C the image is intact; run the command again to continue.',
    arguments: [IMAGE],
    options: [FORMAT, ...INSIDE_WRITTEN, ...BELOW, NO_HOLES],
    examples: [
      { command: 'vdkit compact disk.vdi', description: 'after zeroing free space inside the guest' },
      {
        command: 'vdkit compact snapshot.vdi --json',
        description: 'a differencing image; sizes as JSON',
      },
    ],
  },
  {
    name: 'resize',
    summary: 'change the size of a disk',
    description:
      'Sets the size of the disk to SIZE bytes, or changes it by +SIZE or -SIZE. New space reads as zero. Shrinking ' +
      'is refused if data would be lost, unless --shrink. Partitions and file systems inside are not changed.',
    arguments: [
      IMAGE,
      { name: 'SIZE', description: 'new size in bytes: 512, 64K, 10M, 1.5G, 2T; or a change: +1G, -1G' },
    ],
    options: [FORMAT, ...INSIDE_WRITTEN, ...BELOW, SHRINK, NO_HOLES],
    examples: [
      { command: 'vdkit resize disk.vdi 20G', description: 'set the size' },
      { command: 'vdkit resize disk.vdi +1G', description: 'grow by 1 GiB' },
      { command: 'vdkit resize disk.vdi -512M --shrink', description: 'shrink and discard the end' },
    ],
  },
  {
    name: 'rebase',
    summary: 'change the parent of a differencing image',
    description:
      'Makes IMAGE a child of another parent, or a base image with --to none. The disk reads the same afterwards: ' +
      'data that differs between the old parent and the new one is first stored in IMAGE. With --unsafe only the ' +
      'link changes, and the disk may read differently. After Ctrl-C the image has its old parent and reads as ' +
      'before.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      { flags: '--to <P>', description: 'new parent; "none": make the image a base', completes: 'file' },
      { flags: '--to-format <F>', description: 'format of the new parent', completes: 'format' },
      {
        flags: '--parent <P>',
        description: 'current parent of the image (default: found by name or UUID)',
        completes: 'file',
      },
      PARENT_FORMAT,
      CHAIN,
      { flags: '--unsafe', description: 'change only the link; the new parent must have the same content' },
    ],
    examples: [
      { command: 'vdkit rebase snapshot.qcow2 --to other.qcow2', description: 'move to another parent' },
      { command: 'vdkit rebase snapshot.vdi --to none', description: 'make it independent of its parent' },
      {
        command: 'vdkit rebase snapshot.qcow2 --to moved/base.qcow2 --unsafe',
        description: 'the parent has only moved',
      },
    ],
  },
  {
    name: 'commit',
    summary: "write an image's data into its parent",
    description:
      'Writes the data of IMAGE into its parent, or with --base into an image further down, and empties IMAGE, ' +
      'which becomes a child of that image. A smaller parent is grown first. IMAGE reads the same afterwards. After ' +
      'Ctrl-C all images read as before; run the command again to continue.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...BELOW,
      {
        flags: '--base <P>',
        description: 'image that receives the data: its number, 0 = base, or its name (default: the parent)',
        completes: 'file',
      },
      { flags: '-d, --keep', description: 'keep the data in IMAGE' },
      {
        flags: '--force',
        description: 'proceed even if other images or internal snapshots depend on a changed image',
      },
    ],
    examples: [
      { command: 'vdkit commit snapshot.qcow2', description: 'into its parent' },
      { command: 'vdkit commit last.qcow2 --base 0', description: 'into the base of the chain' },
      { command: 'vdkit commit snapshot.vdi --keep', description: 'before deleting the image' },
    ],
  },
  {
    name: 'amend',
    summary: 'change format options of an image',
    description:
      'Changes options of an existing image; "vdkit formats --json" lists them (amendKeys). The disk reads the same ' +
      'afterwards. An option that cannot be changed is refused before anything is written. After Ctrl-C the image ' +
      'is intact; run the command again to continue. For other options, convert to a new image.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE_WRITTEN,
      {
        flags: '-o, --option <K=V>',
        description: 'option and new value; separate several with commas, double a comma inside a value',
        repeat: true,
      },
    ],
    examples: [
      { command: 'vdkit amend disk.qcow2 -o compat=0.10', description: 'for software limited to version 2' },
      { command: 'vdkit amend disk.qcow2 -o compat=1.1,refcount_bits=64', description: 'several at once' },
      {
        command: 'vdkit amend snapshot.qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2',
        description: 'change the stored parent name without opening the parent',
      },
    ],
  },
  {
    name: 'set',
    summary: 'change image metadata',
    description:
      'Changes comment, identities, geometry or parent of an image in one step. The data is not touched. Warns of ' +
      'images in the same directory that name this one as their parent.',
    arguments: [IMAGE],
    options: [
      FORMAT,
      ...INSIDE_WRITTEN,
      { flags: '--comment <T>', description: 'comment stored in the image; empty: remove it' },
      { flags: '--uuid <U>', description: 'UUID of the image, or random, or null' },
      {
        flags: '--modification-uuid <U>',
        description: 'modification UUID, which changes with the content, or random, or null',
      },
      {
        flags: '--parent <P>',
        description: 'parent whose UUIDs to store; "none": make the image a base',
        completes: 'file',
      },
      PARENT_FORMAT,
      { flags: '--parent-uuid <U>', description: 'UUID of the parent, or null: no parent' },
      { flags: '--parent-modification-uuid <U>', description: 'modification UUID of the parent, or null' },
      { flags: '--geometry <G>', description: 'physical geometry as cylinders/heads/sectors, or none' },
      { flags: '--logical-geometry <G>', description: 'BIOS geometry as cylinders/heads/sectors, or none' },
    ],
    examples: [
      { command: 'vdkit set copy.vdi --uuid random', description: 'a copy with a new identity' },
      { command: 'vdkit set disk.vdi --geometry 1024/16/63', description: 'cylinders, heads, sectors' },
      { command: 'vdkit set snapshot.vdi --parent disk.vdi', description: 'link to the parent again' },
    ],
  },
  {
    name: 'rename',
    summary: 'rename an image',
    description:
      'Renames IMAGE to NEW, within the same file system. Never replaces a file. The names of parent and data file ' +
      'stored in IMAGE, and the name of IMAGE stored in images of the same directory, are updated. Refused if an ' +
      'image in the same directory refers to IMAGE as its parent by UUID, or cannot be updated, unless --force.',
    arguments: [IMAGE, { name: 'NEW', description: 'new name', completes: 'file' }],
    options: [FORMAT, FORCE_PARENT],
    examples: [{ command: 'vdkit rename disk.vdi server.vdi', description: 'in the same directory' }],
  },
  {
    name: 'delete',
    summary: 'delete an image',
    description:
      'Deletes all files of an image. Refused if an image in the same directory names it as its parent or uses one ' +
      'of its files, unless --force, and for files that are not images.',
    arguments: [IMAGE],
    options: [FORMAT, FORCE_PARENT],
    examples: [{ command: 'vdkit delete snapshot.vdi', description: 'keeps its parent' }],
  },
  {
    name: 'snapshot',
    summary: 'manage snapshots inside an image',
    description:
      'ACTION is list, create, apply, delete or rename. create saves the current state of the disk as NAME; apply ' +
      'restores that state, including its size, and discards all later writes; rename takes the old name and the ' +
      'new one. NAME is an id or a name. A power cut leaves either the old state or the new one. convert, map, ' +
      'compare and info read a snapshot with --snapshot.',
    arguments: [
      {
        name: 'ACTION',
        description: 'list, create, apply, delete or rename',
        values: ['list', 'create', 'apply', 'delete', 'rename'],
      },
      IMAGE,
      { name: 'NAME...', description: 'snapshot; for rename also its new name', optional: true },
    ],
    options: [FORMAT, ...INSIDE_WRITTEN, ...BELOW],
    examples: [
      { command: 'vdkit snapshot create disk.qcow2 monday', description: 'before an experiment' },
      { command: 'vdkit snapshot list disk.qcow2', description: 'all snapshots' },
      { command: 'vdkit snapshot apply disk.qcow2 monday', description: 'go back to monday' },
      { command: 'vdkit snapshot rename disk.qcow2 monday good', description: 'rename' },
      { command: 'vdkit convert disk.qcow2 monday.raw --snapshot good', description: 'extract one' },
    ],
  },
  {
    name: 'bitmap',
    summary: 'manage dirty bitmaps inside an image',
    description:
      'ACTION is list, add, clear, enable, disable, merge or remove. A bitmap records the parts of the disk that ' +
      'are written, for incremental backups. merge takes the target bitmap, then the bitmaps to merge into it. ' +
      'Enabled bitmaps record; a program that ends without closing the image leaves them inconsistent.',
    arguments: [
      {
        name: 'ACTION',
        description: 'list, add, clear, enable, disable, merge or remove',
        values: ['list', 'add', 'clear', 'enable', 'disable', 'merge', 'remove'],
      },
      IMAGE,
      { name: 'NAME...', description: 'bitmap; for merge also the bitmaps to merge into it', optional: true },
    ],
    options: [
      FORMAT,
      ...INSIDE_WRITTEN,
      ...BELOW,
      { flags: '--granularity <N>', description: 'add: bytes per bit, a power of two from 512 to 2G' },
      { flags: '--disabled', description: 'add: start disabled' },
    ],
    examples: [
      { command: 'vdkit bitmap add disk.qcow2 since-monday', description: 'start recording' },
      { command: 'vdkit bitmap list disk.qcow2', description: 'all bitmaps' },
      { command: 'vdkit bitmap merge disk.qcow2 week monday tuesday', description: 'combine two days' },
      { command: 'vdkit bitmap remove disk.qcow2 since-monday', description: 'delete it' },
    ],
  },
  {
    name: 'measure',
    summary: 'calculate the file size of a new image',
    description:
      'Calculates the file size of a new image with the data of IMAGE, or of an empty one with --size, and its ' +
      'maximum size. Zeroes stored in IMAGE are counted, since no data is read.',
    arguments: [{ ...IMAGE, optional: true }],
    options: [
      FORMAT,
      ...INSIDE,
      ...BELOW,
      { flags: '--snapshot <NAME>', description: 'internal snapshot to read, by id or name' },
      { flags: '-t, --to <F>', description: 'format of the new image', completes: 'format' },
      VARIANT,
      BLOCK_SIZE,
      KEY_VALUE,
      { flags: '--size <N>', description: 'size of the new disk' },
    ],
    examples: [
      { command: 'vdkit measure disk.raw --to vdi', description: 'size of the converted image' },
      { command: 'vdkit measure --size 20G --to vdi --variant fixed', description: 'an empty image' },
    ],
  },
  {
    name: 'formats',
    summary: 'list formats and their capabilities',
    description:
      'Lists all formats with their capabilities, extensions and variants; --json prints every detail, and cache ' +
      'formats and filters too.',
    arguments: [],
    options: [],
    examples: [
      { command: 'vdkit formats', description: 'a table' },
      { command: 'vdkit formats --json', description: 'all details, with the keys for --option' },
    ],
  },
  {
    name: 'filters',
    summary: 'list filters and their options',
    description:
      'Lists the filters that a program can put between a disk and its images, with their options. Filters are used ' +
      'through the library.',
    arguments: [],
    options: [],
    examples: [
      { command: 'vdkit filters', description: 'a table' },
      { command: 'vdkit filters --json', description: 'as JSON' },
    ],
  },
  {
    name: 'cache',
    summary: 'manage cache files',
    description:
      'ACTION is create, info or drop. A cache file on a fast medium keeps data read from images on a slow one; ' +
      'commands that read data use it with --cache. info shows its content and checks it. drop empties it, or ' +
      'deletes the file with --remove. A cache file never contains anything that the images do not.',
    arguments: [
      { name: 'ACTION', description: 'create, info or drop', values: ['create', 'info', 'drop'] },
      { name: 'FILE', description: 'cache file', completes: 'file' },
      { name: 'SIZE', description: 'create: maximum size in bytes, from 2M to 64G', optional: true },
    ],
    options: [
      { flags: '--fixed', description: 'create: allocate all space at once' },
      { flags: '--force', description: 'create: replace an existing file' },
      { flags: '--remove', description: 'drop: delete the file' },
    ],
    examples: [
      { command: 'vdkit cache create /ssd/disk.vci 4G', description: 'a new cache file' },
      { command: 'vdkit compare /net/a.vdi b.vdi --cache /ssd/disk.vci', description: 'read through it' },
      { command: 'vdkit cache info /ssd/disk.vci', description: 'usage and consistency' },
      { command: 'vdkit cache drop /ssd/disk.vci --remove', description: 'delete it' },
    ],
  },
  {
    name: 'completion',
    summary: 'print a completion script for a shell',
    description: 'Prints a script that completes vdkit commands and options in your shell.',
    arguments: [{ name: 'SHELL', description: 'bash, zsh or fish', values: ['bash', 'zsh', 'fish'] }],
    options: [],
    examples: [
      { command: 'source <(vdkit completion bash)', description: 'in ~/.bashrc' },
      { command: 'vdkit completion zsh > ~/.zfunc/_vdkit', description: 'for zsh, with ~/.zfunc in fpath' },
      { command: 'vdkit completion fish > ~/.config/fish/completions/vdkit.fish', description: 'for fish' },
    ],
  },
];
