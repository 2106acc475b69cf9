/**
 * Run by the build: `node precompile.js PROGRAM CACHE`. Runs the commands whose start time matters, so that the code
 * they use is compiled, and stores the engine's compiled form.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import type { CliIo } from './io.ts';
import { load } from './load.ts';

const [, , file = '', cache = ''] = process.argv;
const { script, program } = load<typeof import('./program.ts')>(file, undefined);
const folder = mkdtempSync(join(tmpdir(), 'vdkit-build-'));
const at = (name: string): string => join(folder, name);
try {
  const bytes = new Uint8Array(4 * 1024 * 1024).fill(1, 0, 1024 * 1024).fill(2, 2 * 1024 * 1024, 3 * 1024 * 1024);
  writeFileSync(at('a.raw'), bytes);
  await runAll([
    ['--version'],
    ['convert', at('a.raw'), at('a.qcow2'), '--format', 'raw', '--quiet'],
    ['convert', at('a.qcow2'), at('b.raw'), '--quiet'],
    ['convert', at('a.raw'), at('a.vdi'), '--format', 'raw', '--quiet'],
    ['convert', at('a.vdi'), at('c.qcow2'), '--compress', '--quiet'],
    ['compare', at('a.raw'), at('a.vdi')],
    ['info', at('a.qcow2')],
    ['map', at('a.qcow2'), '--json'],
    ['check', at('a.qcow2')],
    ['create', at('d.qcow2'), '1G'],
  ]);
  writeFileSync(cache, script.createCachedData());
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function runAll(commands: readonly (readonly string[])[]): Promise<void> {
  for (const words of commands) {
    let text = '';
    const output = (): Writable =>
      new Writable({
        write(chunk: Uint8Array, _encoding, done) {
          text += new TextDecoder().decode(chunk);
          done();
        },
      });
    const io: CliIo = {
      stdin: () => process.stdin,
      stdout: output(),
      stderr: output(),
      environment: process.env,
      version: () => '',
      onInterrupt: () => () => {},
    };
    const status = await program.run(words, io);
    if (status !== 0) throw new Error(`vdkit ${words.join(' ')} ended with ${status}: ${text}`);
  }
}
