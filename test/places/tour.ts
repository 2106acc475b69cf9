/** A tour of every command: what a user does with a chain in one folder. */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Outcome, runCli } from '../cli/run-cli.ts';

/** Text that no message may contain: internal names, and failures that were not foreseen. */
const UNFIT = /vdkit-tmp|bug in vdkit|vdkit failed|internal:|undefined|No intact image needs/;

/** The name of a file from its base name and extension. */
export type Naming = (base: string, extension: string) => string;

/** A disk with data and holes. */
export function sampleBytes(): Uint8Array {
  const bytes = new Uint8Array(1024 * 1024);
  bytes.fill(0x5a, 65_536, 196_608);
  bytes.fill(0xc3, 1_000_000);
  return bytes;
}

/** Words of each command in turn. `folder` has the raw file of the sample, and an empty folder `copies`. */
export function tour(name: Naming, copies: string): readonly (readonly string[])[] {
  const [base, child, moved] = [name('base', 'qcow2'), name('child', 'qcow2'), name('moved', 'qcow2')];
  const [old, young, made] = [name('old', 'vdi'), name('young', 'vdi'), name('made', 'vdi')];
  const [raw, cache] = [name('sample', 'raw'), name('cache', 'vci')];
  return [
    ['create', base, '1M'],
    ['create', old, '1M'],
    ['convert', raw, base, '--format', 'raw', '--into'],
    ['convert', raw, old, '--format', 'raw', '--into', '--verify'],
    ['convert', raw, made, '--format', 'raw', '--verify'],
    ['create', child, '--parent', base],
    ['create', young, '--parent', old],
    ['info', child, '--backing-chain'],
    ['info', young],
    ['map', young],
    ['map', child],
    ['check', base],
    ['check', old],
    ['snapshot', 'create', child, 'one'],
    ['snapshot', 'list', child],
    ['snapshot', 'apply', child, 'one'],
    ['snapshot', 'delete', child, 'one'],
    ['bitmap', 'add', base, 'changes'],
    ['bitmap', 'list', base],
    ['bitmap', 'remove', base, 'changes'],
    ['amend', child, '-o', 'lazy_refcounts=on'],
    ['set', young, '--comment', 'a comment'],
    ['measure', base, '--to', 'vdi'],
    ['resize', made, '2M'],
    ['compact', made],
    ['rebase', child, '--to', 'none'],
    ['rebase', child, '--to', base],
    ['rename', base, moved],
    ['copy', child, copies],
    ['compare', child, raw, '--format-b', 'raw'],
    ['compare', young, raw, '--format-b', 'raw'],
    ['commit', young],
    ['merge', child],
    ['compare', moved, raw, '--format-b', 'raw'],
    ['check', moved],
    ['cache', 'create', cache, '2M'],
    ['cache', 'info', cache],
    ['cache', 'drop', cache, '--remove'],
    ['delete', young],
    ['delete', old],
    ['delete', made],
    ['delete', moved],
    ['formats'],
    ['filters'],
    ['completion', 'bash'],
    ['help'],
  ];
}

/** Runs one command, and reads its messages as a user would. */
export async function take(words: readonly string[]): Promise<Outcome> {
  const outcome = await runCli(words);
  expect(`${outcome.stdout}${outcome.stderr}`, words.join(' ')).not.toMatch(UNFIT);
  if (outcome.status === 1) expectRemedy(outcome.stderr);
  return outcome;
}

/** A failure says what is wrong with which file, and what helps. */
export function expectRemedy(stderr: string): void {
  expect(stderr).toMatch(/^error: .+$/m);
  expect(stderr).toMatch(/^hint: .+$/m);
  expect(stderr).not.toMatch(UNFIT);
}

/** Takes the whole tour; everything succeeds, and only the raw file and the copies stay. */
export async function takeTour(folder: string, name: Naming, copies = join(folder, 'copies')): Promise<void> {
  writeFileSync(name('sample', 'raw'), sampleBytes());
  for (const words of tour(name, copies)) {
    const { status, stderr } = await take(words);
    expect(status, `${words.join(' ')}: ${stderr}`).toBe(0);
  }
  expect(readdirSync(copies)).toHaveLength(2);
  expect(readdirSync(folder).filter((one) => one.includes('vdkit'))).toEqual([]);
}
