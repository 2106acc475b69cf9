/** Power cuts: one share of the formats. */
import { describePowerCuts } from './power-cuts.ts';

await describePowerCuts(1);
