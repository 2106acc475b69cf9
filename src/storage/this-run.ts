/** A text unique to this run of the program: state in memory ends with the run, and counters restart. */
import { randomGuid } from '../binary/guid.ts';

export const THIS_RUN = randomGuid();
