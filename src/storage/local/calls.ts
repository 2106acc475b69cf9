/**
 * Promise versions of `node:fs` calls, made from the callback versions. `fs.promises` is a separate module that costs
 * two milliseconds of a start.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';

export const calls = {
  chmod: promisify(fs.chmod),
  close: promisify(fs.close),
  fchmod: promisify(fs.fchmod),
  fchown: promisify(fs.fchown),
  fdatasync: promisify(fs.fdatasync),
  fstat: promisify(fs.fstat),
  fsync: promisify(fs.fsync),
  ftruncate: promisify(fs.ftruncate),
  futimes: promisify(fs.futimes),
  link: promisify(fs.link),
  open: promisify(fs.open) as (name: string, flags: number | string, mode?: number) => Promise<number>,
  opendir: promisify(fs.opendir),
  read: promisify(fs.read),
  readFile: promisify(fs.readFile),
  readlink: promisify(fs.readlink),
  realpath: promisify(fs.realpath.native),
  rename: promisify(fs.rename),
  stat: promisify(fs.stat),
  statfs: promisify(fs.statfs),
  unlink: promisify(fs.unlink),
  writeFile: promisify(fs.writeFile),
} as const;
