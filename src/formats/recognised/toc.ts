/** TOC: cdrdao's text that names the files and tracks of a disc. */
import { textOf } from '../../binary/look.ts';
import { recognisedFormat } from './recognise.ts';

/** cdrdao(1), "TOC-FILES": the kind of the disc comes first, beside a catalog number and comments. */
const KIND = /^(\s|\/\/.*\n|CATALOG.*\n)*CD_(DA|ROM|ROM_XA|I)\s[^\0]*$/;
const LOOKED_AT = 1024;

/** TOC files, recognised only. */
export const toc = recognisedFormat({
  name: 'toc',
  title: 'cdrdao TOC File',
  label: 'TOC',
  extensions: ['toc'],
  type: 'optical',
  recognise: ({ head }) =>
    KIND.test(textOf(head.subarray(0, LOOKED_AT)))
      ? { match: 'yes', reason: 'the kind of a disc', detail: 'TOC file' }
      : null,
});
