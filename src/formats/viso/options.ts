/** Options of a VISO file: VirtualBox User Manual, "VISO file format". */
import { PAD_BLOCKS, PLATFORM } from '../../blocks/iso9660/layout.ts';
import type { IsoLevel, IsoTexts } from '../../blocks/iso9660/tree.ts';
import { ImageError } from '../../errors.ts';
import { type AttributeRules, bootOf, newBoot, unsupported, type VisoCommand } from './command.ts';
import type { Views } from './iso-source.ts';
import { VISO_LIMITS } from './limits.ts';
import { addition, catalogNames, nameSetup, rootNames } from './names.ts';
import type { ReadIso } from './parse.ts';

/** Changes the command. The value is empty for an option without one. */
export type Apply = (command: VisoCommand, value: string, option: string, readIso: ReadIso) => void | Promise<void>;

function text(field: keyof IsoTexts): Apply {
  return (command, value) => {
    for (const space of command.setup.flat())
      command.texts = { ...command.texts, [space]: { ...command.texts[space], [field]: value } };
  };
}

function set<K extends keyof VisoCommand>(field: K, value: VisoCommand[K]): Apply {
  return (command) => {
    command[field] = value;
  };
}

function rules(change: Partial<AttributeRules>): Apply {
  return (command) => {
    command.rules = { ...command.rules, ...change };
  };
}

function media(number: number): Apply {
  return (command) => {
    bootOf(command).media = number;
  };
}

function numberOf(value: string, most: number, option: string): number {
  const number = /^(0x[0-9a-f]{1,8}|\d{1,10})$/i.test(value) ? Number(value) : Number.NaN;
  if (number <= most) return number;
  throw new ImageError('invalid-format', 'A number of the VISO file is not valid', {
    found: `${option} ${value.slice(0, 40)}`,
    expected: `0 to ${most}`,
  });
}

function modeOf(value: string, option: string): number {
  if (/^[0-7]{1,5}$/.test(value) && Number.parseInt(value, 8) <= 0o7777) return Number.parseInt(value, 8);
  throw new ImageError('invalid-format', 'A mode of the VISO file is not valid', {
    found: `${option} ${value.slice(0, 40)}`,
    expected: 'up to four octal digits: 0644',
  });
}

/** Asking for a mode asks for Rock Ridge, too. */
function forcedMode(field: 'fileMode' | 'directoryMode' | 'newDirectoryMode'): Apply {
  return (command, value, option) => {
    command.rules = { ...command.rules, [field]: modeOf(value, option) };
    if (field !== 'newDirectoryMode') command.rockRidge = 'full';
  };
}

/** The value of `--chmod` and others, up to its colon, and the path behind it. */
function valueAndPath(value: string, option: string): [string, string] {
  const [, first, path] = /^([^:]*):(\/.*)$/s.exec(value) ?? [];
  if (first !== undefined && path !== undefined) return [first, path];
  throw new ImageError('invalid-format', 'An option of the VISO file lacks the name that it is about', {
    found: `${option} ${value.slice(0, 80)}`,
    expected: 'a value, a colon, and the name of a file in the image: 0644:/file',
  });
}

/** Only the primary name space has modes and owners. */
function requirePrimary({ setup }: VisoCommand, option: string): void {
  if (!setup.flat().includes('iso')) throw unsupported(`${option} for Joliet names`, 'iso in --name-setup');
}

const ADDED_BITS: Readonly<Record<string, number>> = { 'a+x': 0o111, 'a+r': 0o444, 'a+rx': 0o555 };

const chmod: Apply = (command, value, option) => {
  requirePrimary(command, option);
  const [wanted, path] = valueAndPath(value, option);
  const added = Object.hasOwn(ADDED_BITS, wanted) ? ADDED_BITS[wanted] : undefined;
  if (added === undefined && !/^\d/.test(wanted))
    throw unsupported(`${option} ${wanted.slice(0, 40)}`, 'octal digits, a+r, a+x or a+rx');
  const mode = added === undefined ? { kept: 0, set: modeOf(wanted, option) } : { kept: 0o7777, set: added };
  command.steps.push({ do: 'change', path, option, mode });
};

function owner(field: 'user' | 'group'): Apply {
  return (command, value, option) => {
    requirePrimary(command, option);
    const [id, path] = valueAndPath(value, option);
    command.steps.push({ do: 'change', path, option, [field]: numberOf(id, 0xffff_ffff, option) });
  };
}

function bootFile(command: VisoCommand, value: string): void {
  const boot = bootOf(command);
  if (boot.file !== null) {
    throw new ImageError('invalid-format', 'The VISO file has two boot images for one entry', {
      found: value.slice(0, 80),
      hint: 'Put --eltorito-new-entry between them.',
    });
  }
  boot.file = value;
}

const addedImage: Apply = (command, value) => {
  const step = addition(command, value);
  if (step.do !== 'add') throw unsupported(`--eltorito-add-image ${value.slice(0, 80)}`, 'a file');
  command.steps.push(step);
  bootFile(command, step.names.iso ?? step.names.joliet ?? '');
};

const nextBoot: Apply = (command) => {
  newBoot(command);
};

const PLATFORMS: Readonly<Record<string, number>> = PLATFORM;

/** Behind a boot image it is about the next one. */
const platform: Apply = (command, value, option) => {
  const name = value.toLowerCase();
  const known = Object.hasOwn(PLATFORMS, name) ? PLATFORMS[name] : undefined;
  const number = known ?? numberOf(value, 0xff, option);
  const boot = bootOf(command).file === null ? bootOf(command) : newBoot(command);
  boot.platform = number;
};

function levelOf(value: string, option: string): IsoLevel {
  const level = numberOf(value, 9, option);
  if (level === 1 || level === 2 || level === 3) return level;
  const hint = level === 0 ? 'An image cannot be without its primary names.' : undefined;
  throw unsupported(`${option} ${value}`, 'level 1 to 3', hint);
}

/** Takes all files of an image, its texts and its boot images. */
const importIso: Apply = async (command, value, _option, readIso) => {
  const iso = await readIso(value, { joliet: true, rock: true });
  command.steps.push({ do: 'import', names: rootNames(command), iso });
  for (const space of command.setup.flat()) command.texts = { ...command.texts, [space]: iso.texts[space] };
  for (const wish of iso.boot) command.boot.push({ ...wish });
  command.imported = iso;
  if (iso.hasSystem) {
    command.warnings.push(
      `The first 32 KiB of ${iso.path} are left out, since what they tell lies elsewhere now: the image does not start from a hard disk.`,
    );
  }
};

function pushIso(views: Views): Apply {
  return async (command, value, option, readIso) => {
    if (command.sources.length === VISO_LIMITS.isoDepth) {
      const expected = VISO_LIMITS.isoDepth;
      throw new ImageError('limit', `The VISO file has too many ${option} without --pop`, { expected });
    }
    command.sources.push(await readIso(value, views));
  };
}

const setupFromImport: Apply = (command, _value, option) => {
  if (command.imported === null) {
    throw new ImageError('invalid-format', `The option ${option} stands before --import-iso`, { found: option });
  }
  command.setup = command.imported.hasJoliet ? [['iso', 'joliet']] : [['iso']];
};

/** Options without a value. Those with one dash and several letters are also written with two. */
const FLAGS: Readonly<Record<string, Apply>> = {
  '-J': set('joliet', true),
  '--joliet': set('joliet', true),
  '--no-joliet': set('joliet', false),
  '--rock-ridge': set('rockRidge', 'full'),
  '--limited-rock-ridge': set('rockRidge', 'limited'),
  '--no-rock-ridge': set('rockRidge', 'none'),
  '--rational-attribs': rules({ strict: false }),
  '--strict-attribs': rules({ strict: true }),
  '--no-file-mode': rules({ fileMode: null }),
  '--no-dir-mode': rules({ directoryMode: null }),
  '--pad': set('pad', PAD_BLOCKS),
  '--no-pad': set('pad', 0),
  '--eltorito-new-entry': nextBoot,
  '--eltorito-alt-boot': nextBoot,
  '--eltorito-floppy-12': media(1),
  '--eltorito-floppy-144': media(2),
  '--eltorito-floppy-288': media(3),
  '--no-emulation-boot': media(0),
  '--no-emul-boot': media(0),
  '--hard-disk-boot': media(4),
  '--no-boot': (command) => {
    bootOf(command).bootable = false;
  },
  '--boot-info-table': (command) => {
    bootOf(command).infoTable = true;
  },
  '--pop': (command, _value, option) => {
    if (command.sources.pop() !== undefined) return;
    throw new ImageError('invalid-format', `The option ${option} stands before --push-iso`, { found: option });
  },
  '--name-setup-from-import': setupFromImport,
  '--graft-points': set('setup', [['iso', 'joliet']]),
  // Names as long as level 2 has them.
  '--long-names': (command) => {
    if (command.level === 1) command.level = 2;
  },
  '--rock': (command) => {
    command.rockRidge = 'full';
    command.rules = { ...command.rules, strict: true };
  },
  '--rational-rock': (command) => {
    command.rockRidge = 'full';
    command.rules = { ...command.rules, strict: false };
  },
};

/** Options with a value. */
const VALUES: Readonly<Record<string, Apply>> = {
  '--volume-id': text('volume'),
  '--volset': text('volumeSet'),
  '--sysid': text('system'),
  '--publisher': text('publisher'),
  '--preparer': text('preparer'),
  '--application-id': text('application'),
  '--copyright': text('copyright'),
  '--abstract': text('abstract'),
  '--biblio': text('bibliography'),
  '--eltorito-boot': bootFile,
  '--eltorito-add-image': addedImage,
  '-e': (command, value) => {
    bootOf(command).platform = PLATFORM.efi;
    bootFile(command, value);
  },
  '--boot-load-size': (command, value, option) => {
    bootOf(command).sectors = numberOf(value, 0xffff, option);
  },
  '--boot-load-seg': (command, value, option) => {
    bootOf(command).segment = numberOf(value, 0xffff, option);
  },
  '--eltorito-platform-id': platform,
  '--boot-catalog': (command, value) => {
    command.steps.push({ do: 'catalog', names: catalogNames(command, value), rules: command.rules });
  },
  '--generic-boot': (command, value) => {
    command.genericBoot = value;
  },
  '--file-mode': forcedMode('fileMode'),
  '--dir-mode': forcedMode('directoryMode'),
  '--new-dir-mode': forcedMode('newDirectoryMode'),
  '--chmod': chmod,
  '--chown': owner('user'),
  '--chgrp': owner('group'),
  '--iso-level': (command, value, option) => {
    command.level = levelOf(value, option);
  },
  '--joliet-ucs-level': (command, value, option) => {
    command.joliet = true;
    command.jolietLevel = levelOf(value, option);
  },
  '--name-setup': nameSetup,
  '--import-iso': importIso,
  '--push-iso': pushIso({ joliet: true, rock: true }),
  '--push-iso-no-joliet': pushIso({ joliet: false, rock: true }),
  '--push-iso-no-rock': pushIso({ joliet: true, rock: false }),
  '--push-iso-no-rock-no-joliet': pushIso({ joliet: false, rock: false }),
};

/** Other spellings. */
const SYNONYMS: Readonly<Record<string, string>> = {
  '-V': '--volume-id',
  '--volid': '--volume-id',
  '-P': '--publisher',
  '-p': '--preparer',
  '-A': '--application-id',
  '-b': '--eltorito-boot',
  '-c': '--boot-catalog',
  '-G': '--generic-boot',
  '-l': '--long-names',
  '-R': '--rock',
  '-r': '--rational-rock',
  '--joliet-level': '--joliet-ucs-level',
  '--ucs-level': '--joliet-ucs-level',
};

/** The option of that spelling, and if it takes a value; null: there is none. */
export function optionOf(spelling: string): { readonly apply: Apply; readonly takesValue: boolean } | null {
  const long = /^-[^-]./.test(spelling) ? `-${spelling}` : spelling;
  const name = own(SYNONYMS, long) ?? long;
  const flag = own(FLAGS, name);
  const apply = flag ?? own(VALUES, name);
  return apply === undefined ? null : { apply, takesValue: flag === undefined };
}

/** Words come from a file: names of the prototype mean nothing. */
function own<T>(table: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
