/** A text that no other run of the program has: what memory holds is gone with the run, and numbers begin again. */
import { randomGuid } from '../binary/guid.ts';

export const THIS_RUN = randomGuid();
