/**
 * Formats that vdkit recognises but cannot open: a probe, and an `open` whose error names the format. Without them such
 * a file would be read as a raw disk. A format with a driver moves to a separate folder.
 */
import type { FileExtension, Format, MediumType, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import { defineFormat } from '../../image/define-format.ts';

/** Criteria for one format. */
export interface Recognition {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly title: string;
  /** Name in messages, if nothing more precise is known: `VHDX`. */
  readonly label: string;
  /** Without dots. */
  readonly extensions: readonly string[];
  /** Default `hdd`. */
  readonly type?: MediumType;
  /** See {@link Format.unwrap}. */
  readonly unwrap?: Format['unwrap'] | undefined;
  /** Null when the file is something else. Never throws. */
  recognise(input: ProbeInput): Recognised | null;
}

/** A recognised file. */
export interface Recognised {
  readonly match: 'yes' | 'maybe';
  readonly reason: string;
  /** Precise description: `QCOW2 version 3`. */
  readonly detail: string;
}

/** The format object of a recognition. */
export function recognisedFormat(recognition: Recognition): Format {
  const type = recognition.type ?? 'hdd';
  const probe = (input: ProbeInput): ProbeAnswer => {
    const found = recognition.recognise(input);
    return found === null ? { match: 'no', reason: `no ${recognition.label} signature` } : { ...found, type };
  };
  return defineFormat({
    name: recognition.name,
    aliases: recognition.aliases ?? [],
    title: recognition.title,
    can: { read: false },
    extensions: recognition.extensions.map((extension): FileExtension => ({ extension, type })),
    probe,
    unwrap: recognition.unwrap,
    open: async (files, options) => (await import('./refuse.ts')).refuse(recognition, files, options),
  });
}
