/** The built-in filters. */
import type { Filter } from '../image/filter.ts';
import { byteswap } from './byteswap/index.ts';

/** All built-in filters. */
export const FILTERS: readonly Filter[] = [byteswap];
