/** Mutants: one share of the formats. */
import { describeMutants } from './power-cuts.ts';

await describeMutants(1);
