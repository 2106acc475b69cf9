/**
 * Operations on a medium, in order: the start and the end of each are separate entries, so that a cut can fall between
 * any two of them. A write counts as possibly on the medium from its start; it is durable once a flush that started
 * after its end has ended itself.
 *
 * Files are identified by content, not by name: a rename does not make a new one.
 */
import { checkArguments } from '../arguments.ts';
import { assert } from '../errors.ts';
import { FLUSH, LOG, OPERATION } from './kinds.ts';
import { PagedBytes } from './paged-bytes.ts';

/** A file, under all of its names. */
export interface LoggedFile {
  readonly id: number;
  /** Its latest name. */
  name: string;
  /** Content when first seen; counts as durable. */
  readonly initial: PagedBytes;
}

/** Time span of an operation. `Infinity`: it had not ended, or it failed. */
interface Timed {
  /** Number of the operation, in order of their starts. */
  readonly id: number;
  /** Position of the entry at which it started. */
  readonly startedAt: number;
  /** Position of the entry at which it ended. */
  endedAt: number;
  /** Position of the entry at which it failed; `Infinity` when it did not. */
  failedAt: number;
}

export interface WriteOperation extends Timed {
  readonly kind: 'write';
  readonly file: LoggedFile;
  readonly offset: number;
  readonly length: number;
  /** A copy, made at the start. */
  readonly bytes: Uint8Array;
  /** Size of the file before and after. */
  readonly sizes: readonly [number, number];
}

export interface ZeroOperation extends Timed {
  readonly kind: 'zero';
  readonly file: LoggedFile;
  readonly offset: number;
  readonly length: number;
}

export interface ResizeOperation extends Timed {
  readonly kind: 'resize';
  readonly file: LoggedFile;
  readonly sizes: readonly [number, number];
}

export interface CreateOperation extends Timed {
  readonly kind: 'create';
  readonly file: LoggedFile;
  readonly to: string;
  readonly directories: readonly string[];
}

/** A file whose name changes with that of its directory. */
export interface MovedFile {
  readonly file: LoggedFile;
  readonly from: string;
  readonly to: string;
}

export interface RenameOperation extends Timed {
  readonly kind: 'rename';
  readonly file: LoggedFile;
  readonly from: string;
  readonly to: string;
  readonly replace: boolean;
  /** Of a directory: all files in it, which get their names in one step. Left out: one file. */
  readonly moved?: readonly MovedFile[];
  readonly directories: readonly string[];
}

/** A file gets a second name. */
export interface LinkOperation extends Timed {
  readonly kind: 'link';
  readonly file: LoggedFile;
  readonly from: string;
  readonly to: string;
  readonly directories: readonly string[];
}

export interface RemoveOperation extends Timed {
  readonly kind: 'remove';
  readonly file: LoggedFile;
  readonly from: string;
  readonly directories: readonly string[];
}

/** Changes the content of a file. */
export type FileOperation = WriteOperation | ZeroOperation | ResizeOperation;
/** Changes names. */
export type NameOperation = CreateOperation | RenameOperation | LinkOperation | RemoveOperation;
/** Everything that a cut can lose. */
export type MediumOperation = FileOperation | NameOperation;

/** Makes operations durable: a flush of one file, or of the names of one directory. */
export interface FlushOperation extends Timed {
  readonly kind: 'flush';
  /** Number among all flushes of the log, from 0. */
  readonly number: number;
  /** Null for `syncNames`. */
  readonly file: LoggedFile | null;
  /** Null for the flush of a file. */
  readonly directory: string | null;
}

/** A mark left by the workload. */
export interface Mark {
  readonly kind: 'mark';
  readonly label: string;
  readonly payload: unknown;
  readonly position: number;
}

/** An operation starts, ends or fails, or a workload left a mark. */
export type LogEntry =
  | { readonly kind: 'start'; readonly operation: MediumOperation | FlushOperation }
  | { readonly kind: 'end'; readonly operation: MediumOperation | FlushOperation }
  | { readonly kind: 'fail'; readonly operation: MediumOperation | FlushOperation }
  | Mark;

type Draft<T> = T extends Timed ? Omit<T, 'id' | 'startedAt' | 'endedAt' | 'failedAt' | 'number'> : never;

/** All operations on the storages of one provider. */
export class OperationLog {
  readonly entries: LogEntry[] = [];
  readonly operations: MediumOperation[] = [];
  readonly flushes: FlushOperation[] = [];
  readonly files: LoggedFile[] = [];
  /** Names when first seen; count as durable. */
  readonly initialNames = new Map<string, LoggedFile>();
  /** Names as they are now. */
  readonly names = new Map<string, LoggedFile>();
  /** Misuse of a storage noticed by the recorder, e.g. a buffer changed while being written. */
  readonly hazards: string[] = [];
  #started = 0;

  /** Number of entries so far. A cut at position n means: the entries before n have happened. */
  get position(): number {
    return this.entries.length;
  }

  /** Records the progress of a workload. Returns the position of the mark. */
  mark(label: string, payload?: unknown): number {
    const position = this.position;
    this.entries.push({ kind: 'mark', label, payload, position });
    return position;
  }

  /** A file from before the recording. */
  addExisting(name: string, content: PagedBytes): LoggedFile {
    const file = this.addFile(name, content);
    this.initialNames.set(name, file);
    this.names.set(name, file);
    return file;
  }

  addFile(name: string, initial = new PagedBytes()): LoggedFile {
    const file: LoggedFile = { id: this.files.length, name, initial };
    this.files.push(file);
    return file;
  }

  /** Records the start of an operation that a cut can lose. */
  start(draft: Draft<MediumOperation>): MediumOperation {
    const operation = { ...draft, ...this.#times() } as MediumOperation;
    this.operations.push(operation);
    this.entries.push({ kind: 'start', operation });
    return operation;
  }

  startFlush(target: LoggedFile | string): FlushOperation {
    const named = typeof target === 'string';
    const flush: FlushOperation = {
      kind: 'flush',
      ...this.#times(),
      number: this.flushes.length,
      file: named ? null : target,
      directory: named ? target : null,
    };
    this.flushes.push(flush);
    this.entries.push({ kind: 'start', operation: flush });
    return flush;
  }

  /** Records the end. */
  end(operation: MediumOperation | FlushOperation): void {
    assert(operation.endedAt === Number.POSITIVE_INFINITY, 'an operation ends once');
    operation.endedAt = this.position;
    this.entries.push({ kind: 'end', operation });
  }

  /**
   * Records a failure. The operation never ends: it may be on the medium, in part, or not. A failed flush also loses
   * the writes that waited for it: systems forget that they must still be written, so no later flush makes them
   * durable.
   */
  fail(operation: MediumOperation | FlushOperation): void {
    assert(operation.endedAt === Number.POSITIVE_INFINITY, 'an operation that ended cannot fail');
    operation.failedAt = this.position;
    this.entries.push({ kind: 'fail', operation });
  }

  /** Records the effect of an operation on names. Comes before its end: others see it at once. */
  applyNames(operation: NameOperation): void {
    if (operation.kind === 'rename' && operation.moved !== undefined) {
      for (const { file, from, to } of operation.moved) {
        this.names.delete(from);
        this.names.set(to, file);
        file.name = to;
      }
      return;
    }
    if (operation.kind === 'rename' || operation.kind === 'remove') this.names.delete(operation.from);
    if (operation.kind !== 'remove') {
      this.names.set(operation.to, operation.file);
      operation.file.name = operation.to;
    }
  }

  /** Withdraws a failed operation on names: it changed nothing. */
  withdraw(operation: NameOperation): void {
    this.operations.splice(this.operations.indexOf(operation), 1);
  }

  #times(): Timed {
    const never = Number.POSITIVE_INFINITY;
    return { id: this.#started++, startedAt: this.position, endedAt: never, failedAt: never };
  }
}

/** Number of flushes in a log, including those of directories. */
export function flushCount(log: OperationLog): number {
  checkArguments('flushCount', { log: [log, LOG] });
  return log.flushes.length;
}

/** For people: `flush 7 of disk.vdi`. */
export function describeFlush(flush: FlushOperation): string {
  checkArguments('describeFlush', { flush: [flush, FLUSH] });
  return flush.file === null
    ? `flush ${flush.number}, names in ${flush.directory}`
    : `flush ${flush.number} of ${flush.file.name}`;
}

/** For people: `write 31 of disk.vdi [0x200, 0x400)`. */
export function describeOperation(operation: MediumOperation): string {
  checkArguments('describeOperation', { operation: [operation, OPERATION] });
  switch (operation.kind) {
    case 'write':
    case 'zero': {
      const { id, kind, file, offset, length } = operation;
      return `${kind} ${id} of ${file.name} [0x${offset.toString(16)}, 0x${(offset + length).toString(16)})`;
    }
    case 'resize':
      return `resize ${operation.id} of ${operation.file.name} from ${operation.sizes[0]} to ${operation.sizes[1]}`;
    case 'create':
      return `create ${operation.id} of ${operation.to}`;
    case 'rename':
    case 'link':
      return `${operation.kind} ${operation.id} of ${operation.from} to ${operation.to}`;
    case 'remove':
      return `remove ${operation.id} of ${operation.from}`;
  }
}
