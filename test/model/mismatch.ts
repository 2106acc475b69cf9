/** What a disk does not do as it should. */
export class Mismatch extends Error {}
