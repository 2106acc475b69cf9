/** The raw format: plain disk contents, for hard disks, floppies and optical discs. */
import type { Format } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';
import { loadedMethods } from '../../image/driver.ts';
import { probeRaw } from './probe.ts';

/** The raw format. Accepts every unidentified file, but for writing only if named explicitly. */
export const raw: Format = defineFormat({
  name: 'raw',
  title: 'Raw disk',
  fallback: true,
  can: { write: true, discard: true, resize: true, sequential: true },
  extensions: [
    { extension: 'raw', type: 'hdd' },
    { extension: 'iso', type: 'optical' },
    { extension: 'cdr', type: 'optical' },
    { extension: 'img', type: 'floppy' },
    { extension: 'ima', type: 'floppy' },
    { extension: 'dsk', type: 'floppy' },
    { extension: 'flp', type: 'floppy' },
    { extension: 'vfd', type: 'floppy' },
  ],
  variants: [
    { word: 'sparse', description: 'space is allocated when it is first written (default)' },
    { word: 'fixed', description: 'all space is allocated at creation', allocation: 'fixed' },
  ],
  probe: probeRaw,
  ...loadedMethods(() => import('./open.ts'), ['open']),
  ...loadedMethods(() => import('./maker.ts'), ['create', 'plan', 'measure']),
});
