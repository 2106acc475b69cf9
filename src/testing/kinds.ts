/** Kinds of the arguments of this folder's functions. */
import { CALLBACK, LIST, listOf, NAME, NUMBER, OBJECT, POSITIVE, TEXT, withFields, withMethods } from '../arguments.ts';
import { PROVIDER } from '../storage/checks.ts';

/** A log of operations. */
export const LOG = withFields('an OperationLog', { operations: LIST, flushes: LIST });
/** Naming rules of a provider. */
export const RULES = withMethods('a provider that names are looked up with', 'resolve', 'directory');
/** A suite, and its recorded run. */
export const SUITE = withFields('a suite', {
  provider: PROVIDER,
  image: NAME,
  size: POSITIVE,
  build: CALLBACK,
  open: CALLBACK,
  sessions: listOf(CALLBACK),
});
export const RUN = withFields('a recorded run', { suite: SUITE, log: LOG });
/** An operation of a guest. */
export const WRITE = withFields('an operation of a guest', { number: NUMBER, sector: NUMBER, count: NUMBER });
/** An operation on a medium, and a flush of one. */
export const OPERATION = withFields('an operation on a medium', { id: NUMBER, kind: TEXT });
export const FLUSH = withFields('a flush', { id: NUMBER, number: NUMBER });
/** A session with a disk, and its parts. */
export const SESSION = withMethods('a session', 'write', 'flush');
export const PARTS = withFields('an object with disk, model, log and seed', {
  disk: withMethods('a disk', 'write', 'flush'),
  model: OBJECT,
  log: LOG,
  seed: NUMBER,
});
