/** Raw images have no header; these sizes distinguish medium types. */

/** User bytes of an optical sector. */
export const OPTICAL_SECTOR = 2048;
/** Size of the system area: optical discs are larger. */
export const OPTICAL_MIN = 32_768;
/** Largest floppy in VirtualBox: 82 tracks of 48 sectors on two sides. */
export const FLOPPY_MAX = 512 * 82 * 48 * 2;
