/** The error for a format that is recognised only: loaded when such a file is opened. */
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { AS_RAW, readProbeInput } from '../../image/probe.ts';
import type { Recognition } from './recognise.ts';

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
  throw new ImageError('unsupported', `The file is recognised as ${found.detail}, which vdkit cannot open`, {
    path: name,
    hint: `${recognition.remedy ?? 'Convert it to VDI or raw with the program that created it'}; or ${AS_RAW}.`,
  });
}
