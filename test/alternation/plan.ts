/** A step of a walk: the commands that do it, as a person types them, and what must be there afterwards. */
import type { Random } from '../../src/testing/random.ts';
import type { World } from './world.ts';

/** One operation of a program that uses the library, or of qemu-io. */
export interface Operation {
  readonly act: 'write' | 'zero' | 'discard' | 'compress' | 'flush';
  readonly offset: number;
  readonly length: number;
  /** The byte that a write is filled with; each sector begins with its number, unless QEMU writes it. */
  readonly byte: number;
}

/** A program with its arguments; or a session of the library, for which there is no command. */
export interface Command {
  readonly program: 'vdkit' | 'qemu-img' | 'qemu-io' | 'cp' | 'rm' | 'library';
  readonly words: readonly string[];
  /** With `library`. */
  readonly session?: Session;
}

/** Opens an image for writing, does all in turn, and closes it. */
export interface Session {
  readonly image: string;
  readonly format: string;
  /** Files that the image may refer to, beside its own folder. */
  readonly allow: readonly string[];
  readonly operations: readonly Operation[];
}

/** See the head of this file. */
export interface Plan {
  readonly command: Command;
  readonly after: World;
  /** Images to look at, beside those that read them. */
  readonly touched: readonly string[];
  /** Permitted refusal: then everything is unchanged, or as `refused` describes. */
  readonly refusal?: RegExp;
  readonly refused?: World;
  /** Default 0. */
  readonly status?: number;
  /** May be cut: what the files may be like then, beside before and after. Gets what was printed until then. */
  readonly cut?: readonly World[] | ((output: string) => readonly World[]);
  /** Cut anywhere, the very same command goes on, also where its target is there already. */
  readonly resumes?: boolean;
  /** Check of the output. */
  readonly prints?: (text: string) => string | null;
}

/** Applies to a world, or not: then it is left out. So steps can be left out before it. */
export type Step = (world: World) => Plan | null;

/** One thing that can be done. */
export interface Kind {
  readonly name: string;
  readonly weight: number;
  /** One that fits what there is; null: nothing does. */
  propose(world: World, random: Random): Step | null;
}

/** The command as it is typed. */
export function typed({ program, words, session }: Command): string {
  if (session === undefined) return [program, ...words.map(quoted)].join(' ');
  const lines = session.operations.map(({ act, offset, length, byte }) => {
    if (act === 'flush') return 'flush()';
    if (act === 'discard') return `discard([{ offset: ${offset}, length: ${length} }])`;
    if (act === 'zero') return `zero(${offset}, ${length})`;
    return `${act}(${offset}, sectors(${length}, ${byte}))`;
  });
  return `# Disk.open('${session.image}', { mode: 'write', format: '${session.format}' }): ${lines.join(', ')}, close()`;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
