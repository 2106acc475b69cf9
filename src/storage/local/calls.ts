/**
 * Promise versions of `node:fs` calls, made from the callback versions. `fs.promises` is a separate module that costs
 * two milliseconds of a start. Names may be of bytes that are not UTF-8: see `names.ts`.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { decodeName, encodeName } from './names.ts';

type Open = (name: string, flags: number | string, mode?: number) => Promise<number>;
type Resolve = (name: string, encoding: 'buffer') => Promise<Buffer>;

const realpath = withName(promisify(fs.realpath.native) as unknown as Resolve);
const readlink = withName(promisify(fs.readlink) as unknown as Resolve);

export const calls = {
  chmod: withName(promisify(fs.chmod)),
  close: promisify(fs.close),
  fchmod: promisify(fs.fchmod),
  fchown: promisify(fs.fchown),
  fdatasync: promisify(fs.fdatasync),
  fstat: promisify(fs.fstat),
  fsync: promisify(fs.fsync),
  ftruncate: promisify(fs.ftruncate),
  futimes: promisify(fs.futimes),
  mkdir: withName(promisify(fs.mkdir) as (name: string) => Promise<void>),
  link: withNames(promisify(fs.link)),
  lstat: withName(promisify(fs.lstat)),
  open: withName(promisify(fs.open) as Open),
  opendir: withName(promisify(fs.opendir)),
  read: promisify(fs.read),
  readFile: withName(promisify(fs.readFile)),
  readlink: async (name: string): Promise<string> => decodeName(await readlink(name, 'buffer')),
  realpath: async (name: string): Promise<string> => decodeName(await realpath(name, 'buffer')),
  rename: withNames(promisify(fs.rename)),
  rmdir: withName(promisify(fs.rmdir)),
  stat: withName(promisify(fs.stat)),
  statfs: withName(promisify(fs.statfs)),
  unlink: withName(promisify(fs.unlink)),
  writeFile: withName(promisify(fs.writeFile)),
} as const;

/** The same call, whose first argument is a name as text. */
function withName<Call extends (...args: never[]) => unknown>(call: Call): Call {
  const run = call as unknown as (name: unknown, ...rest: readonly unknown[]) => unknown;
  const encoded = (name: string, ...rest: readonly unknown[]): unknown => run(encodeName(name), ...rest);
  return encoded as unknown as Call;
}

type OnTwo = (from: string | Buffer, to: string | Buffer) => Promise<void>;

/** The same call for two names as text. */
function withNames(call: OnTwo): (from: string, to: string) => Promise<void> {
  return (from, to) => call(encodeName(from), encodeName(to));
}
