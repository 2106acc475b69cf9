/**
 * Every bound that protects vdkit from hostile files, in one place, each tested from both sides. Sizes are bytes unless
 * the name says otherwise.
 */
export const LIMITS = {
  /** Images in one chain. A longer chain is refused: it is a loop or an attack. */
  chainDepth: 256,
  /** Images opened in one directory in a search for parents or children. */
  parentCandidates: 1000,
  /** Files of one directory probed in a search for images. */
  filesBeside: 10_000,
  /** Names read from a directory to recognise its format. */
  probeNames: 1000,
  /** Bytes read from the start of a file to recognise its format. */
  probeHead: 64 * 1024,
  /** Bytes read from the end of a file to recognise its format. */
  probeTail: 32 * 1024,
  /** Largest virtual disk: offsets must stay exact in a JavaScript number. */
  virtualSize: Number.MAX_SAFE_INTEGER,
  /** Smallest and largest allocation unit that an image may declare. */
  blockSizeMin: 512,
  blockSizeMax: 2 ** 30,
  /** Entries in a VDI block map: its offset fields have 32 bits. */
  vdiBlocks: 2 ** 30 - 1,
  /** QCOW2: an L1 table, and the refcount table. */
  qcow2L1Bytes: 32 * 1024 * 1024,
  qcow2RefcountTableBytes: 8 * 1024 * 1024,
  /** QCOW2: L1 and bitmap tables of one image together. Overlapping tables would be read over and over. */
  qcow2TableBytes: 2 ** 30,
  /** QCOW2: header extensions; QEMU writes six at most. */
  qcow2Extensions: 256,
  /** QCOW2: snapshots, and the table that lists them. */
  qcow2Snapshots: 65_536,
  qcow2SnapshotTableBytes: 64 * 1024 * 1024,
  /** QCOW2: persistent bitmaps, and the directory that lists them. */
  qcow2Bitmaps: 65_535,
  qcow2BitmapDirectoryBytes: 64 * 1024 * 1024,
  /** QCOW2: the bits of one bitmap. */
  qcow2BitmapBytes: 512 * 1024 * 1024,
  /** Table pages kept in memory for one image. */
  tableCacheBytes: 32 * 1024 * 1024,
  /** Dirty metadata that triggers an early flush. */
  dirtyMetadataBytes: 16 * 1024 * 1024,
  /** Tables in the chain of an extended partition; Linux follows 100. */
  logicalPartitions: 256,
  /** The entries of a GPT; the usual 128 take 16 KiB. */
  gptEntryBytes: 1024 * 1024,
  /** Longest comment of any format. */
  commentBytes: 1024 * 1024,
} as const;
