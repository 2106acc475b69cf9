/** Configurations as images, for the test suites. */
import type { FormatKit } from '../kit.ts';

export const kit: FormatKit = {
  format: 'toy-net',
  conformance: { without: 'a disk of a server is made by the server' },
  golden: { without: 'no program has the format' },
  hostile: { without: 'all bytes that are read are those of the disk' },
};
