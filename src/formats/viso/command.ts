/** The command line of a VISO file, understood: files, texts, name spaces, boot images. */
import { PAD_BLOCKS } from '../../blocks/iso9660/layout.ts';
import type { IsoTexts } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';

/** A file or directory to add, or a name to take out. */
export interface Addition {
  /** In the image; null: the last part of the name on the host. */
  readonly name: string | null;
  /** Null: the name is taken out. */
  readonly host: string | null;
  /** The name must be there. */
  readonly must: boolean;
}

/** A boot image, by its name in the image. */
export interface BootWish {
  file: string | null;
  platform: 'bios' | 'efi';
  sectors: number | null;
  segment: number;
  media: number;
  infoTable: boolean;
}

/** See the head of this file. */
export interface VisoCommand {
  readonly additions: Addition[];
  readonly boot: BootWish[];
  texts: IsoTexts;
  joliet: boolean;
  rockRidge: boolean;
  pad: number;
  /** File on the host with the system area. */
  genericBoot: string | null;
}

const NO_TEXTS: IsoTexts = {
  volume: 'CDROM',
  system: '',
  volumeSet: '',
  publisher: '',
  preparer: '',
  application: 'VDKIT',
  copyright: '',
  abstract: '',
  bibliography: '',
};

type Apply = (command: VisoCommand, value: string) => void;

function text(field: keyof IsoTexts): Apply {
  return (command, value) => {
    command.texts = { ...command.texts, [field]: value };
  };
}

function bootOf({ boot }: VisoCommand): BootWish {
  const last = boot.at(-1);
  if (last !== undefined) return last;
  const first: BootWish = { file: null, platform: 'bios', sectors: null, segment: 0x7c0, media: 0, infoTable: false };
  boot.push(first);
  return first;
}

function media(number: number): Apply {
  return (command) => {
    bootOf(command).media = number;
  };
}

const newEntry: Apply = (command) => {
  bootOf(command);
  command.boot.push({ file: null, platform: 'bios', sectors: null, segment: 0x7c0, media: 0, infoTable: false });
};
const joliet =
  (on: boolean): Apply =>
  (command) => {
    command.joliet = on;
  };
const rockRidge =
  (on: boolean): Apply =>
  (command) => {
    command.rockRidge = on;
  };
const nothing: Apply = () => {};

function numberOf(value: string, most: number): number {
  const number = /^(0x[0-9a-f]{1,8}|\d{1,9})$/i.test(value) ? Number(value) : Number.NaN;
  if (number <= most) return number;
  throw new ImageError('invalid-format', 'A number of the VISO file is not valid', { found: value.slice(0, 40) });
}

/** Options without a value. */
const FLAGS: Readonly<Record<string, Apply>> = {
  '-J': joliet(true),
  '--joliet': joliet(true),
  '--no-joliet': joliet(false),
  '-R': rockRidge(true),
  '-r': rockRidge(true),
  '--rock-ridge': rockRidge(true),
  '--limited-rock-ridge': rockRidge(true),
  '--no-rock-ridge': rockRidge(false),
  '-l': nothing,
  '--rational-attribs': nothing,
  '--pad': (command) => {
    command.pad = PAD_BLOCKS;
  },
  '--no-pad': (command) => {
    command.pad = 0;
  },
  '--eltorito-new-entry': newEntry,
  '-eltorito-alt-boot': newEntry,
  '--eltorito-alt-boot': newEntry,
  '--eltorito-floppy-12': media(1),
  '--eltorito-floppy-144': media(2),
  '--eltorito-floppy-288': media(3),
  '--no-emulation-boot': media(0),
  '-no-emul-boot': media(0),
  '--hard-disk-boot': media(4),
  '-hard-disk-boot': media(4),
  '--boot-info-table': (command) => {
    bootOf(command).infoTable = true;
  },
  '-boot-info-table': (command) => {
    bootOf(command).infoTable = true;
  },
};

const bootFile: Apply = (command, value) => {
  bootOf(command).file = value;
};
const loadSize: Apply = (command, value) => {
  bootOf(command).sectors = numberOf(value, 0xffff);
};
const loadSegment: Apply = (command, value) => {
  bootOf(command).segment = numberOf(value, 0xffff);
};
const genericBoot: Apply = (command, value) => {
  command.genericBoot = value;
};
const platform: Apply = (command, value) => {
  const isEfi = /^(efi|0xef|239)$/i.test(value);
  if (!isEfi && !/^(x86|0)$/i.test(value)) throw unsupported(`--eltorito-platform-id ${value}`, 'x86 or efi');
  bootOf(command).platform = isEfi ? 'efi' : 'bios';
};
const level: Apply = (_command, value) => {
  if (value !== '2' && value !== '3') throw unsupported(`--iso-level ${value}`, 'level 2 or 3');
};
/** What Joliet names may have is the same in all of them here. */
const jolietLevel: Apply = (_command, value) => {
  if (!['1', '2', '3'].includes(value)) throw unsupported(`--joliet-level ${value}`, 'level 1 to 3');
};
const nameSetup: Apply = (command, value) => {
  const spaces = value.split(/[,+]/);
  const other = spaces.find((space) => !['iso', 'primary', 'joliet'].includes(space));
  if (other !== undefined) throw unsupported(`--name-setup ${value}`, 'iso and joliet');
  if (!spaces.some((space) => space !== 'joliet'))
    throw unsupported(`--name-setup ${value}`, 'iso with or without joliet');
  command.joliet = spaces.includes('joliet');
};

/** Options with a value. */
const VALUES: Readonly<Record<string, Apply>> = {
  '-V': text('volume'),
  '--volid': text('volume'),
  '--volume-id': text('volume'),
  '--volset': text('volumeSet'),
  '--sysid': text('system'),
  '-P': text('publisher'),
  '--publisher': text('publisher'),
  '-p': text('preparer'),
  '--preparer': text('preparer'),
  '-A': text('application'),
  '--application-id': text('application'),
  '--copyright': text('copyright'),
  '--abstract': text('abstract'),
  '--biblio': text('bibliography'),
  '-b': bootFile,
  '--eltorito-boot': bootFile,
  '-e': (command, value) => {
    bootOf(command).platform = 'efi';
    bootFile(command, value);
  },
  '--boot-load-size': loadSize,
  '-boot-load-size': loadSize,
  '--boot-load-seg': loadSegment,
  '-boot-load-seg': loadSegment,
  '--eltorito-platform-id': platform,
  '-G': genericBoot,
  '--generic-boot': genericBoot,
  // The catalog lies in the image, but gets no name.
  '-c': nothing,
  '--boot-catalog': nothing,
  '--iso-level': level,
  '--joliet-ucs-level': jolietLevel,
  '--joliet-level': jolietLevel,
  '--name-setup': nameSetup,
};

/** Understands the words behind the marker. Throws `unsupported` for options that change what is not changed here. */
export function commandOf(words: readonly string[], path: string): VisoCommand {
  const command: VisoCommand = {
    additions: [],
    boot: [],
    texts: NO_TEXTS,
    joliet: true,
    rockRidge: true,
    pad: PAD_BLOCKS,
    genericBoot: null,
  };
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? '';
    if (!word.startsWith('-')) {
      command.additions.push(additionOf(word, path));
      continue;
    }
    const flag = own(FLAGS, word);
    const [, name = word, inline] = /^(--[^=:]+)[=:](.*)$/s.exec(word) ?? [];
    const apply = own(VALUES, name);
    if (flag !== undefined) flag(command, '');
    else if (apply === undefined) throw unknown(word, path);
    else {
      const value = inline ?? words[++at];
      if (value === undefined) throw new ImageError('invalid-format', `The option ${name} lacks its value`, { path });
      apply(command, value);
    }
  }
  return command;
}

/** Words come from a file: names of the prototype mean nothing. */
function own(table: Readonly<Record<string, Apply>>, name: string): Apply | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}

/** `[/iso/name[=/joliet/name…]=]host/path`. */
function additionOf(word: string, path: string): Addition {
  if (word.startsWith('@')) throw unsupported(word.slice(0, 80), 'all words in the file itself');
  const parts = word.split('=');
  const host = parts.pop() ?? '';
  if (parts.includes('')) throw unsupported(word.slice(0, 80), 'a name in all name spaces');
  const names = [...new Set(parts.map((name) => `/${name.replace(/^\/+/, '')}`))];
  if (names.length > 1) throw unsupported(word.slice(0, 80), 'one name in all name spaces');
  const name = names[0] ?? null;
  if (host === '')
    throw new ImageError('invalid-format', 'A name of the VISO file is empty', { path, found: word.slice(0, 80) });
  const removes = host === ':remove:' || host === ':must-remove:';
  return { name, host: removes ? null : host, must: host === ':must-remove:' };
}

function unsupported(found: string, expected: string): ImageError {
  return new ImageError('unsupported', 'The VISO file asks for something that is not supported', { found, expected });
}

function unknown(word: string, path: string): ImageError {
  const option = word.slice(0, 80);
  const isOutput = /^(-o|--output)\b/.test(word);
  return new ImageError('unsupported', `The option ${option} of the VISO file is not supported`, {
    path,
    hint: isOutput
      ? 'The image is the file itself: remove the option.'
      : 'Remove the option if the image does without it.',
  });
}
