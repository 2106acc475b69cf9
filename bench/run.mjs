/**
 * `npm run bench [-- --only WORD] [--pairs N] [--folder DIR]`: compares vdkit with its peers on this machine, now, on
 * the same files. What counts are ratios: absolute times say more about the machine.
 *
 * Two ratios: of the whole processes, and net of the time that each side needs to start at all. The limit is about the
 * net one, since the start is measured on separate lines. Ends with status 1 when a limit is passed.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findPeer, installHint, PEERS } from '../scripts/peers.mjs';
import { ensureBuilt, ensureInstalled, ROOT } from '../scripts/prepare.mjs';
import { makeCases } from './cases.mjs';
import { factorOf, median, peakMemoryOf, timeOf, timePairs } from './measure.mjs';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    pairs: { type: 'string', default: '5' },
    folder: { type: 'string' },
  },
});
const MIB = 1024 ** 2;
/** Lines without a peer. */
const SINGLE = {
  memory: { take: peakMemoryOf, show: (bytes) => `${(bytes / MIB).toFixed(0)} MiB` },
  time: { take: medianTime, show: (ms) => `${ms.toFixed(0)} ms` },
  factor: { take: factorOf, show: (factor) => factor.toFixed(2) },
};
const pairCount = Math.max(5, Number(options.pairs) || 0);

ensureInstalled();
ensureBuilt();
// Memory-backed, so that the noise of a disk is out.
const base = options.folder ?? (existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
const folder = mkdtempSync(join(base, 'vdkit-bench-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));

const { cases, starts, prepare } = makeCases({
  folder,
  program: join(ROOT, 'dist', 'cli', 'bin.js'),
  sample: join(ROOT, 'samples', 'disk.vdi'),
  qemuImg: requireQemu(),
});
const chosen = cases.filter(({ name }) => name.includes(options.only));
if (chosen.length === 0) {
  console.error(
    `error: no benchmark has "${options.only}" in its name; there are:\n  ${cases.map((c) => c.name).join('\n  ')}`,
  );
  process.exit(64);
}
console.error(`Preparing files in ${folder} …`);
prepare(chosen);
const start = await timeStarts();
console.log(`start alone: node ${start.ours.toFixed(0)} ms, qemu-img ${start.theirs.toFixed(0)} ms`);
printRow(['benchmark', 'vdkit', 'peer', 'ratio', 'net', 'cpu', 'aim', 'limit', '']);
const taken = new Map();
let over = 0;
for (const one of chosen) {
  const row = await measure(one);
  printRow(row.cells);
  if (!row.within) over++;
}
if (over > 0) console.log(`${over} over the limit`);
process.exitCode = over > 0 ? 1 : 0;

/** @param {import('./cases.mjs').Case} one */
async function measure(one) {
  if (one.measures === 'pairs') return measurePairs(one);
  if (one.measures === 'slope') return measureSlope(one);
  if (one.measures === 'fixed') return measureFixed(one);
  const { take, show } = SINGLE[one.measures];
  const value = await take(one.ours);
  if (value === null)
    return { within: true, cells: [one.name, '?', '', '', '', '', show(one.aim), show(one.limit), 'unknown'] };
  return {
    within: value <= one.limit,
    cells: [one.name, show(value), '', '', '', '', show(one.aim), show(one.limit), verdict(value, one)],
  };
}

async function measurePairs(one) {
  const times = await pairsOf(one);
  const ratios = times.ours.map((ours, index) => ours / times.theirs[index]);
  const netRatios = times.ours.map((ours, index) => (ours - start.ours) / (times.theirs[index] - start.theirs));
  const ratio = median(ratios);
  const net = median(netRatios);
  const judged = one.startUp ? ratio : net;
  const ms = (values) => `${median(values).toFixed(0)} ms`;
  return {
    within: judged <= one.limit,
    cells: [
      one.name,
      ms(times.ours),
      ms(times.theirs),
      ratio.toFixed(2),
      one.startUp ? '' : net.toFixed(2),
      median(times.cpu.ours.map((ours, index) => ours / times.cpu.theirs[index])).toFixed(2),
      one.aim.toFixed(2),
      one.limit.toFixed(2),
      verdict(judged, one),
    ],
  };
}

/** What three quarters of the disk take, on both sides: the start and other fixed work are not in it. */
async function measureSlope(one) {
  const [large, small] = [await pairsOf(one), await pairsOf({ ...one.small, pairs: one.pairs })];
  const more = (/** @type {'ours' | 'theirs'} */ side) => median(large[side]) - median(small[side]);
  const [ours, theirs] = [more('ours'), more('theirs')];
  const slope = ours / theirs;
  const cpu = (/** @type {'ours' | 'theirs'} */ side) => median(large.cpu[side]) - median(small.cpu[side]);
  const ms = (value) => `${value.toFixed(0)} ms`;
  return {
    within: slope <= one.limit,
    cells: [
      one.name,
      ms(ours),
      ms(theirs),
      slope.toFixed(2),
      '',
      (cpu('ours') / cpu('theirs')).toFixed(2),
      one.aim.toFixed(2),
      one.limit.toFixed(2),
      verdict(slope, one),
    ],
  };
}

/** What the smallest disk takes beyond the start of each side. */
async function measureFixed(one) {
  const times = await pairsOf(one);
  const [ours, theirs] = ['ours', 'theirs'].map((side) => median(times[side]) - start[side]);
  const ms = (value) => `${value.toFixed(0)} ms`;
  return {
    within: ours <= one.limit,
    cells: [one.name, ms(ours), ms(theirs), '', '', '', ms(one.aim), ms(one.limit), verdict(ours, one)],
  };
}

/** Times of both sides. Rows about the same commands share them. */
async function pairsOf({ ours, theirs, pairs = pairCount }) {
  const key = JSON.stringify([ours.args, theirs.args]);
  const times = taken.get(key) ?? (await timePairs(ours, theirs, pairs));
  taken.set(key, times);
  return times;
}

function verdict(value, { aim, limit }) {
  if (value <= aim) return 'good';
  return value <= limit ? 'within limit' : 'OVER LIMIT';
}

/** Time that each side needs to start and do nothing, measured in this run. */
async function timeStarts() {
  const times = await timePairs(starts.ours, starts.theirs, 15);
  return { ours: median(times.ours), theirs: median(times.theirs) };
}

async function medianTime(command) {
  const times = [];
  for (let run = 0; run < pairCount; run++) times.push(await timeOf(command));
  return median(times);
}

function printRow(cells) {
  const widths = [38, 9, 9, 6, 6, 6, 8, 8, 12];
  console.log(
    cells.map((cell, index) => (index === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[index]))).join('  '),
  );
}

function requireQemu() {
  const peer = PEERS.find(({ name }) => name === 'qemu-img');
  const path = findPeer(peer);
  if (path !== null) return path;
  console.error(`error: the benchmarks need qemu-img (${installHint(peer)})`);
  process.exit(1);
}
