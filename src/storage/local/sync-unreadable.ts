/**
 * Durable names in a directory that its user may change but not read. It cannot be opened, so its whole file system is
 * flushed, through a directory above that can be, or else all file systems.
 */
import * as path from 'node:path';
import { calls } from './calls.ts';

/** Flushes the file system of an unreadable directory by the system's `sync` command. */
export async function syncUnreadable(directory: string): Promise<void> {
  const place = await readableAbove(directory);
  // Small systems have a command without options.
  if (place !== null && (await run('-f', place))) return;
  if (await run()) return;
  // Fails with the reason.
  await calls.close(await calls.open(directory, 'r'));
}

/** The nearest directory above on the same file system that can be opened; null when there is none. */
async function readableAbove(directory: string): Promise<string | null> {
  const { dev } = await calls.stat(directory);
  for (let at = path.resolve(directory); path.dirname(at) !== at; ) {
    at = path.dirname(at);
    const found = await calls.stat(at).catch(() => null);
    if (found?.dev !== dev) return null;
    const handle = await calls.open(at, 'r').catch(() => null);
    if (handle === null) continue;
    await calls.close(handle);
    return at;
  }
  return null;
}

async function run(...words: readonly string[]): Promise<boolean> {
  // Rarely needed, and slow to load.
  const { execFile } = await import('node:child_process');
  return new Promise((resolve) => {
    execFile('sync', [...words], (error) => resolve(error === null));
  });
}
