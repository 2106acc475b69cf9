import * as fs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeFully, writeListFully } from './descriptor.ts';
import { WriteTurns } from './write-turns.ts';

describe('turns', () => {
  it('come one after the other, the next one in the end of the last', () => {
    const turns = new WriteTurns();
    const log: string[] = [];
    for (const name of ['a', 'b', 'c']) turns.enter(() => log.push(name));
    expect(log).toEqual(['a']);
    turns.leave();
    expect(log).toEqual(['a', 'b']);
    turns.leave();
    turns.leave();
    turns.enter(() => log.push('d'));
    expect(log).toEqual(['a', 'b', 'c', 'd']);
  });
});

describe('writes that take turns', () => {
  let folder = '';
  let fd = -1;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'vdkit-turns-'));
    fd = fs.openSync(join(folder, 'file'), 'w+');
  });
  afterEach(() => {
    fs.closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  it('all arrive, single buffers and lists', async () => {
    const turns = new WriteTurns();
    const piece = (n: number): Uint8Array => new Uint8Array(4096).fill(n);
    await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        n % 2 === 0
          ? writeFully(fd, n * 4096, piece(n + 1), turns)
          : writeListFully(fd, n * 4096, [piece(n + 1).subarray(0, 1000), piece(n + 1).subarray(1000)], turns),
      ),
    );
    const file = fs.readFileSync(join(folder, 'file'));
    expect(file).toHaveLength(20 * 4096);
    for (let n = 0; n < 20; n++)
      expect(file.subarray(n * 4096, (n + 1) * 4096).every((byte) => byte === n + 1)).toBe(true);
  });

  it('give their turn on when they fail', async () => {
    const turns = new WriteTurns();
    const readOnly = fs.openSync(join(folder, 'file'), 'r');
    try {
      const bytes = new Uint8Array(4096);
      const failed = [writeFully(readOnly, 0, bytes, turns), writeListFully(readOnly, 0, [bytes, bytes], turns)];
      for (const { status } of await Promise.allSettled(failed)) expect(status).toBe('rejected');
      await writeFully(fd, 0, bytes, turns);
    } finally {
      fs.closeSync(readOnly);
    }
  });
});
