/** The error for a format that is recognised only: loaded when such a file is opened. */
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { AS_RAW, readProbeInput } from '../../image/probe.ts';
import type { Recognition } from './recognise.ts';

/** Ways to get a disk from a file, by the name of its format: the beginning of a sentence. */
const REMEDIES: Readonly<Partial<Record<string, string>>> = {
  gzip: 'Unpack it first (gunzip)',
  xz: 'Unpack it first (unxz)',
  bzip2: 'Unpack it first (bunzip2)',
  zstd: 'Unpack it first (unzstd)',
  lz4: 'Unpack it first (unlz4)',
  lzip: 'Unpack it first (lzip -d)',
  '7z': 'Unpack it first (7z x)',
  rar: 'Unpack it first (unrar x)',
  wim: 'Apply it to a disk first (wimapply)',
  luks: 'Unlock it first (cryptsetup open)',
  ewf: 'Export it as raw first (ewfexport)',
  aff: 'Export it as raw first (affconvert -r)',
  asif: 'Convert it first (diskutil image create from)',
  simg: 'Unpack it first (simg2img)',
  chd: 'Extract it first (chdman extracthd)',
  cab: 'Unpack it first (cabextract)',
  cpio: 'Unpack it first (cpio -i)',
  ar: 'Unpack it first (ar x)',
  lzop: 'Unpack it first (lzop -d)',
  ad1: 'Export its files with the program that created it (files, not a disk)',
  partclone: 'Restore it to a raw disk first (partclone.restore)',
  partimage: 'Restore it to a raw disk first (partimage restore)',
  cso: 'Unpack it first (maxcso --decompress)',
  mds: 'Specify its MDF file, or convert it first (mdf2iso)',
  ccd: 'Convert its IMG file first (ccd2iso)',
  daa: 'Convert it first (daa2iso)',
  wbfs: 'Convert it first (wit copy)',
  tar: 'Unpack it first (tar -xf)',
  ovf: 'Specify one of the disks that it lists',
  toc: 'Make a cue sheet of it (toc2cue)',
  zip: 'Unpack it first (unzip)',
};

/** Names the format, and what makes a disk of it. */
export async function refuse(recognition: Recognition, files: ImageFiles, options: FormatOpenOptions): Promise<never> {
  throwIfAborted(options.signal, 'Opening');
  const { name } = files;
  const found = recognition.recognise(await readProbeInput(mainFile(files), name));
  if (found === null) {
    throw new ImageError('invalid-format', `This is not a ${recognition.label} image: its signature is missing`, {
      path: name,
      hint: 'Omit the format, so that it is detected.',
    });
  }
  const limit = recognition.unwrap === undefined ? ', which vdkit cannot open' : ': an image in it can only be read';
  throw new ImageError('unsupported', `The file is recognised as ${found.detail}${limit}`, {
    path: name,
    hint: `${REMEDIES[recognition.name] ?? 'Convert it to VDI or raw with the program that created it'}; or ${AS_RAW}.`,
  });
}
