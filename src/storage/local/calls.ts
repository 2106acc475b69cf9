/**
 * Promise versions of `node:fs` calls, made from the callback versions. `fs.promises` is a separate module that costs
 * two milliseconds of a start. Names may be of bytes that are not UTF-8: see `names.ts`.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { decodeName, encodeName } from './names.ts';

type Open = (name: string, flags: number | string, mode?: number) => Promise<number>;
type Resolve = (name: string, encoding: 'buffer') => Promise<Buffer>;

const realpath = withNames(promisify(fs.realpath.native) as unknown as Resolve);
const readlink = withNames(promisify(fs.readlink) as unknown as Resolve);

export const calls = {
  chmod: withNames(promisify(fs.chmod)),
  close: promisify(fs.close),
  fchmod: promisify(fs.fchmod),
  fchown: promisify(fs.fchown),
  fdatasync: promisify(fs.fdatasync),
  fstat: promisify(fs.fstat),
  fsync: promisify(fs.fsync),
  ftruncate: promisify(fs.ftruncate),
  futimes: promisify(fs.futimes),
  link: withNames(promisify(fs.link), 2),
  open: withNames(promisify(fs.open) as Open),
  opendir: withNames(promisify(fs.opendir)),
  read: promisify(fs.read),
  readFile: withNames(promisify(fs.readFile)),
  readlink: async (name: string): Promise<string> => decodeName(await readlink(name, 'buffer')),
  realpath: async (name: string): Promise<string> => decodeName(await realpath(name, 'buffer')),
  rename: withNames(promisify(fs.rename), 2),
  stat: withNames(promisify(fs.stat)),
  statfs: withNames(promisify(fs.statfs)),
  unlink: withNames(promisify(fs.unlink)),
  writeFile: withNames(promisify(fs.writeFile)),
} as const;

/** The same call, whose first arguments are names as text. */
function withNames<Call extends (...args: never[]) => unknown>(call: Call, count = 1): Call {
  const run = call as unknown as (...args: readonly unknown[]) => unknown;
  const encoded = (...args: readonly unknown[]): unknown =>
    run(...args.map((value, at) => (at < count && typeof value === 'string' ? encodeName(value) : value)));
  return encoded as unknown as Call;
}
