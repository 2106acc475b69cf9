/** Runs programs and measures them: wall time in pairs of alternating order, and peak memory. */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';

/**
 * @typedef {object} Command
 * @property {string} program
 * @property {string[]} args
 * @property {string} [from] The file that `before` makes the command's own file from.
 * @property {() => void} [before] Not measured: brings the files into the state that the command expects.
 */

/**
 * Wall time of one run in milliseconds. Throws when the program fails.
 * @param {Command} command
 * @returns {Promise<number>}
 */
export async function timeOf({ program, args, before }) {
  before?.();
  const started = performance.now();
  await finished(program, args);
  return performance.now() - started;
}

/**
 * Wall and processor time of one run in milliseconds; the latter is NaN where nothing tells. Throws when the program
 * fails.
 * @param {Command} command
 * @returns {Promise<{ wall: number, cpu: number }>}
 */
export async function timesOf({ program, args, before }) {
  if (!existsSync('/usr/bin/time')) return { wall: await timeOf({ program, args, before }), cpu: Number.NaN };
  before?.();
  const started = performance.now();
  const { stderr } = await finished('/usr/bin/time', ['-f', 'cpu %U %S', program, ...args]);
  const wall = performance.now() - started;
  const [, user = '', system = ''] = /cpu ([\d.]+) ([\d.]+)\s*$/.exec(stderr) ?? [];
  return { wall, cpu: (Number(user) + Number(system)) * 1000 };
}

/**
 * Runs both commands `count` times, each pair right after the other and in changing order, so that whatever else the
 * machine does meets both. One pair before that warms caches and is not counted.
 * @param {Command} ours
 * @param {Command} theirs
 * @param {number} count
 * @returns {Promise<{ ours: number[], theirs: number[], cpu: { ours: number[], theirs: number[] } }>} Wall times in
 *   milliseconds, and processor times.
 */
export async function timePairs(ours, theirs, count) {
  const times = { ours: [], theirs: [], cpu: { ours: [], theirs: [] } };
  for (let pair = -1; pair < count; pair++) {
    const result = {};
    const order = pair % 2 === 0 ? ['ours', 'theirs'] : ['theirs', 'ours'];
    for (const side of order) result[side] = await timesOf(side === 'ours' ? ours : theirs);
    if (pair < 0) continue;
    for (const side of order) {
      times[side].push(result[side].wall);
      times.cpu[side].push(result[side].cpu);
    }
  }
  return times;
}

/**
 * Peak resident memory of one run, in bytes; null where neither GNU time nor /proc can tell.
 * @param {Command} command
 * @returns {Promise<number | null>}
 */
export async function peakMemoryOf({ program, args, before }) {
  before?.();
  if (existsSync('/usr/bin/time')) {
    // Started through another small program: a child begins with the peak of the process that it was split from.
    const { stderr } = await finished('/usr/bin/time', ['-f', 'peak %M', program, ...args]);
    const kib = /peak (\d+)\s*$/.exec(stderr)?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  }
  if (!existsSync('/proc/self/status')) return null;
  let peak = 0;
  await finished(program, args, (pid) => {
    const read = () => {
      try {
        const kib = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
        peak = Math.max(peak, Number(kib ?? 0) * 1024);
      } catch {
        // It has just ended.
      }
    };
    const timer = setInterval(read, 5);
    return () => clearInterval(timer);
  });
  return peak;
}

/**
 * The number that a program says of itself, as the line `factor N` on standard error; null where it cannot tell.
 * @param {Command} command
 * @returns {Promise<number | null>}
 */
export async function factorOf({ program, args, before }) {
  if (!existsSync('/proc/self/io')) return null;
  before?.();
  const { stderr } = await finished(program, args);
  return Number(/^factor ([\d.]+)$/m.exec(stderr)?.[1]);
}

/** @param {readonly number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  return sorted.length % 2 === 1 ? sorted[Math.floor(middle)] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Standard output goes nowhere, as with `> /dev/null`: reading it would cost us, not them. */
function finished(program, args, watch = () => () => {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    const unwatch = watch(child.pid);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', (status, signal) => {
      unwatch();
      if (status === 0) resolve({ stderr });
      else reject(new Error(`${program} ${args.join(' ')} ended with ${signal ?? status}: ${stderr}`));
    });
  });
}
