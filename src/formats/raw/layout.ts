/** Raw images have no header; these are the sizes that tell media apart. */

/** User bytes of an optical sector. */
export const OPTICAL_SECTOR = 2048;
/** The system area: an optical disc is larger. */
export const OPTICAL_MIN = 32_768;
/** The largest floppy that VirtualBox takes for one: 82 tracks of 48 sectors on two sides. */
export const FLOPPY_MAX = 512 * 82 * 48 * 2;
