/** Other programs, as tests call them. A missing one is a visible skip for a person and a failure in CI. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { describe, it } from 'vitest';
import { findPeer, installHint, PEERS } from '../../scripts/peers.mjs';

const run = promisify(execFile);

/**
 * The message of QEMU when the processor time of a thread did not advance while it timed a key derivation.
 * Machines that account by ticks give that now and then; a second run of the same command succeeds.
 */
const CLOCK_FAULT = 'Unable to get accurate CPU usage';
const CLOCK_ATTEMPTS = 20;

/** One installed program. */
export interface PeerProgram {
  /** Runs it and gives its standard output. Rejects, with what it printed, when it fails. */
  run(...args: string[]): Promise<string>;
  /** Its standard output as it comes. Rejects at the end when it fails. */
  stream(...args: string[]): AsyncIterable<Uint8Array>;
  /** Its standard output for this standard input. Throws when it fails. */
  filter(input: Uint8Array, ...args: string[]): Buffer;
}

/** A group of tests that needs other programs. The body gets them in the same order. */
export function describeWithPeers(
  names: readonly string[],
  title: string,
  body: (...peers: PeerProgram[]) => void,
): void {
  const found = names.map((name) => requirePeer(name));
  const missing = found.filter((peer) => typeof peer === 'string');
  if (missing.length === 0) {
    describe(title, () => body(...found.filter((peer) => typeof peer !== 'string')));
  } else if (process.env['CI']) {
    describe(title, () => {
      it('has the programs it needs', () => {
        throw new Error(missing.join('; '));
      });
    });
  } else {
    describe.skip(`${title} (skipped: ${missing.join('; ')})`, () => {
      it('needs other programs', () => {});
    });
  }
}

/** The program, or a sentence that says what is missing. */
export function requirePeer(name: string): PeerProgram | string {
  const peer = PEERS.find((entry) => entry.name === name);
  if (peer === undefined) throw new Error(`${name} is not in test/peers/peers.json`);
  const path = findPeer(peer);
  if (path === null) return `${name} is not installed (${installHint(peer)})`;
  return {
    async run(...args) {
      for (let attempt = 1; ; attempt += 1) {
        try {
          const { stdout } = await run(path, args, { maxBuffer: 256 * 1024 * 1024 });
          return stdout;
        } catch (error) {
          const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
          if (stderr.includes(CLOCK_FAULT) && attempt < CLOCK_ATTEMPTS) continue;
          throw new Error(`${name} ${args.join(' ')} failed: ${stdout}${stderr}`, { cause: error });
        }
      }
    },
    filter: (input, ...args) => execFileSync(path, args, { input, maxBuffer: 256 * 1024 * 1024 }),
    async *stream(...args) {
      const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'inherit'] });
      const closed = once(child, 'close');
      yield* child.stdout;
      const [status] = await closed;
      if (status !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${status}`);
    },
  };
}
