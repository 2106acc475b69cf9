/**
 * The bounds that protect vdkit from hostile files, whatever their format; each format has further ones for its own
 * structures. Each is tested from both sides. Sizes are bytes unless the name says otherwise.
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
  /** Compressed files and archives around an image. */
  wrappings: 2,
  /** Bytes that a compressed file may unpack to. */
  unpackedBytes: 2 ** 44,
  /** Largest virtual disk: offsets must stay exact in a JavaScript number. */
  virtualSize: Number.MAX_SAFE_INTEGER,
  /** Smallest and largest allocation unit that an image may declare. */
  blockSizeMin: 512,
  blockSizeMax: 2 ** 30,
  /** Files open at a time of all images that have more than a few parts. */
  openParts: 24,
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
