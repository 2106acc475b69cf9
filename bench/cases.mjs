/** Measurements, their peers, and the targets. */
import { execFileSync } from 'node:child_process';
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeHalfZeroVdi, makeRawDisk, makeScatteredVdi } from './data.mjs';
import { imageRows } from './images.mjs';
import { opticalRows } from './optical.mjs';
import { packedRows } from './packed.mjs';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;
const DISK = 2 * GIB;

/**
 * @typedef {object} Case
 * @property {string} name
 * @property {'pairs' | 'slope' | 'fixed' | 'memory' | 'time' | 'factor'} measures Ratio to a peer; the same of the time
 *   that a larger disk takes in addition; milliseconds beyond the start of Node; peak memory; wall time; what the program
 *   says of itself.
 * @property {import('./measure.mjs').Command} ours
 * @property {import('./measure.mjs').Command} [theirs]
 * @property {{ ours: import('./measure.mjs').Command, theirs: import('./measure.mjs').Command }} [small] The same with a
 *   quarter of the disk, for the slope.
 * @property {number} [pairs] How many, when other than asked for.
 * @property {boolean} [startUp] The ratio is about starting: there is nothing to take off for it.
 * @property {number} aim Ratio, bytes or milliseconds that we want.
 * @property {number} limit More than this is a failure.
 */

/**
 * The cases, and `prepare`, which makes the files they need.
 * @param {{ folder: string, program: string, sample: string, qemuImg: string }} where
 */
export function makeCases({ folder, program, sample, qemuImg }) {
  const at = (name) => join(folder, name);
  const [raw, vdi, target, huge] = [at('disk.raw'), at('disk.vdi'), at('target'), at('huge.vdi')];
  const fresh = () => rmSync(target, { force: true });
  const vdkit = (...args) => ({ program: process.execPath, args: [program, ...args], before: fresh });
  const qemu = (...args) => ({ program: qemuImg, args, before: fresh });
  const node = { program: process.execPath, args: ['-e', '0'] };

  const convert = (from, to) => {
    const source = from === 'raw' ? raw : vdi;
    const ours = vdkit('convert', source, target, '--format', from, '--to', to, '--quiet');
    // vdkit's targets are durable when it ends; so qemu-img must flush too, which its default does not.
    const theirs = qemu('convert', '-t', 'writeback', '-f', from, '-O', to, source, target);
    return [
      { name: `convert ${from} to ${to}`, measures: 'pairs', ours, theirs, aim: 0.9, limit: 1.05 },
      { name: `convert ${from} to ${to}: peak memory`, measures: 'memory', ours, aim: 150 * MIB, limit: 150 * MIB },
    ];
  };
  const qcow2 = { plain: at('disk.qcow2'), zlib: at('zlib.qcow2'), zstd: at('zstd.qcow2') };
  const fromQcow2 = (kind, aim, limit) => ({
    name: `convert qcow2 to raw${kind === 'plain' ? '' : `, ${kind}`}`,
    measures: 'pairs',
    ours: vdkit('convert', qcow2[kind], target, '--format', 'qcow2', '--to', 'raw', '--quiet'),
    theirs: qemu('convert', '-t', 'writeback', '-f', 'qcow2', '-O', 'raw', qcow2[kind], target),
    aim,
    limit,
  });
  const toQcow2 = (kind, aim, limit) => ({
    name: `convert raw to qcow2${kind === 'plain' ? '' : `, ${kind}`}`,
    measures: 'pairs',
    ours: vdkit(
      ...['convert', raw, target, '--format', 'raw', '--to', 'qcow2', '--quiet'],
      ...(kind === 'plain' ? [] : [`--compress=${kind}`]),
    ),
    theirs: qemu(
      ...['convert', '-t', 'writeback', '-f', 'raw', '-O', 'qcow2'],
      ...(kind === 'plain' ? [] : ['-c', '-o', `compression_type=${kind}`]),
      ...[raw, target],
    ),
    aim,
    limit,
  });
  /** Cost of the queue itself: 300,000 requests a second are 3.33 microseconds for each. */
  const queue = (kind, name, aim) => ({
    name: `queue: µs for ${name}`,
    measures: 'factor',
    ours: { program: process.execPath, args: [join(import.meta.dirname, 'queue.mjs'), kind, '2000000'] },
    aim,
    limit: 3.33,
  });
  const disks = { raw, small: at('small.raw'), tiny: at('tiny.raw') };
  const images = imageRows({ folder, program, qemuImg, disks });
  const optical = opticalRows({ folder });
  const packed = packedRows({ folder, program, disks });
  const tables = at('tables.qcow2');
  const map = vdkit('map', huge, '--json');
  const [half, changed] = [at('half.vdi'), at('changed.vdi')];
  /** These change the image in place, so each run gets a copy. */
  const inPlace = (from, command, ...args) => ({
    ...vdkit(command, changed, ...args, '--quiet'),
    from,
    before: () => copyFileSync(from, changed),
  });

  const snapshots = [0, 1, 2].map((number) => at(`merge${number}.vdi`));
  const merge = {
    program: process.execPath,
    args: [join(import.meta.dirname, 'merge.mjs'), ...snapshots],
    before: () => makeSnapshots(snapshots),
  };

  const cached = [at('cached.vdi'), at('cached.vci')];
  const cache = {
    program: process.execPath,
    args: [join(import.meta.dirname, 'cache.mjs'), ...cached],
    before: () => {
      for (const file of cached) rmSync(file, { force: true });
    },
  };

  const chain = Array.from({ length: 100 }, (_, number) => at(`chain${number}.vdi`));

  /** @type {Case[]} */
  const cases = [
    ...convert('raw', 'raw'),
    ...convert('raw', 'vdi'),
    ...convert('vdi', 'raw'),
    toQcow2('plain', 0.9, 1.0),
    fromQcow2('plain', 0.9, 1.0),
    toQcow2('zlib', 0.36, 0.42),
    {
      name: 'convert raw to qcow2, zlib: peak memory',
      measures: 'memory',
      ours: toQcow2('zlib', 0, 0).ours,
      aim: 150 * MIB,
      limit: 150 * MIB,
    },
    fromQcow2('zlib', 0.9, 0.9),
    toQcow2('zstd', 1.2, 1.2),
    fromQcow2('zstd', 1.2, 1.2),
    ...images.cases,
    ...optical.cases,
    ...packed.cases,
    ...[
      ['check qcow2', qcow2.plain],
      ['check qcow2 of 256 GiB with all its tables', tables],
    ].map(([name, file]) => ({
      name,
      measures: 'pairs',
      ours: vdkit('check', file, '--quiet'),
      theirs: qemu('check', '-q', '-f', 'qcow2', file),
      aim: 2,
      limit: 2,
    })),
    queue('reads', 'a 4 KiB read', 0.5),
    queue('promised', 'a 4 KiB read, by promise', 1),
    queue('writes', 'a 4 KiB write', 1),
    {
      name: 'compare raw and vdi',
      measures: 'pairs',
      ours: vdkit('compare', raw, vdi),
      theirs: qemu('compare', '-f', 'raw', '-F', 'vdi', raw, vdi),
      aim: 1.2,
      limit: 1.2,
    },
    {
      // qemu-img has no such command: what people do instead is a new image without the zeroes.
      name: 'compact a half-zero vdi',
      measures: 'pairs',
      ours: inPlace(half, 'compact'),
      theirs: qemu('convert', '-t', 'writeback', '-f', 'vdi', '-O', 'vdi', half, target),
      aim: 1.0,
      limit: 1.2,
    },
    {
      name: 'resize a vdi, moving its map',
      measures: 'time',
      ours: inPlace(half, 'resize', '300G'),
      aim: 300,
      limit: 1000,
    },
    {
      name: 'open a chain of 100 vdi images',
      measures: 'time',
      // By name: below /dev, where files in memory are, no parent is looked for.
      ours: vdkit('map', chain.at(-1), '--chain', chain.slice(0, -1).join(','), '--json'),
      aim: 1000,
      limit: 1000,
    },
    { name: 'read again through a cache, 5 ms medium', measures: 'factor', ours: cache, aim: 0.05, limit: 0.05 },
    { name: 'merge a 2 GiB chain: bytes moved', measures: 'factor', ours: merge, aim: 1.01, limit: 1.05 },
    { name: 'merge a 2 GiB chain', measures: 'time', ours: merge, aim: 2000, limit: 5000 },
    { name: 'map of a 2 TiB vdi', measures: 'time', ours: map, aim: 1000, limit: 1000 },
    { name: 'map of a 2 TiB vdi: peak memory', measures: 'memory', ours: map, aim: 200 * MIB, limit: 200 * MIB },
    ...['--version', `info ${sample}`].map((words) => ({
      name: `start: vdkit ${words.split(' ')[0]} to node -e 0`,
      measures: 'pairs',
      ours: vdkit(...words.split(' ')),
      theirs: node,
      pairs: 31,
      startUp: true,
      aim: 2.5,
      limit: 2.5,
    })),
  ];
  return {
    cases,
    starts: { ours: node, theirs: qemu('--version') },
    prepare(/** @type {readonly Case[]} */ chosen) {
      const needs = (file) =>
        chosen.some(
          (one) => one.ours.args.includes(file) || one.ours.from === file || one.small?.ours.args.includes(file),
        );
      const kinds = Object.entries(qcow2).filter(([, file]) => needs(file));
      const needed = new Set([...images.disksOf(needs), ...packed.disksOf(needs)]);
      if (needs(vdi) || kinds.length > 0) needed.add(raw);
      for (const disk of needed) makeRawDisk(disk, disk === raw ? DISK : disk === disks.small ? DISK / 4 : MIB);
      images.prepare(needs);
      optical.prepare(needs);
      packed.prepare(needs);
      for (const [kind, file] of kinds) {
        const how = kind === 'plain' ? [] : ['-c', '-o', `compression_type=${kind}`];
        execFileSync(qemuImg, ['convert', ...how, '-f', 'raw', '-O', 'qcow2', raw, file]);
      }
      if (needs(vdi)) execFileSync(qemuImg, ['convert', '-f', 'raw', '-O', 'vdi', raw, vdi]);
      if (needs(tables)) {
        execFileSync(qemuImg, ['create', '-q', '-f', 'qcow2', '-o', 'preallocation=metadata', tables, '256G']);
      }
      if (needs(half)) makeHalfZeroVdi(half, DISK);
      if (needs(chain.at(-1))) makeChain(chain);
      if (needs(huge)) makeScatteredVdi(huge, 2048 * GIB);
    },
  };
}

/** A disk of 2 GiB that is all stored: half in the base, a quarter in each of two snapshots. */
function makeSnapshots(/** @type {readonly string[]} */ names) {
  for (const name of names) rmSync(name, { force: true });
  const program = `
    const { Disk } = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)});
    const { randomFillSync } = await import('node:crypto');
    const names = ${JSON.stringify(names)};
    const disk = await Disk.create(names[0], { size: ${DISK} });
    const bytes = randomFillSync(new Uint8Array(${16 * MIB}));
    for (const number of names.keys()) {
      if (number > 0) await disk.createDiff(names[number]);
      for (let at = 0; at < disk.size; at += bytes.length) {
        const turn = Math.floor(at / bytes.length) % 4;
        if (Math.max(0, turn - 1) === number) await disk.write(at, bytes);
      }
    }
    await disk.close();`;
  execFileSync(process.execPath, ['--input-type=module', '-e', program]);
}

/** A disk with a snapshot for each name, and a block in each. */
function makeChain(/** @type {readonly string[]} */ names) {
  const program = `
    const { Disk } = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)});
    const [base, ...others] = ${JSON.stringify(names)};
    const disk = await Disk.create(base, { size: 2 ** 30 });
    for (const [number, name] of others.entries()) {
      await disk.createDiff(name);
      await disk.write(number * 2 ** 20, new Uint8Array(2 ** 20).fill(number));
    }
    await disk.close();`;
  execFileSync(process.execPath, ['--input-type=module', '-e', program]);
}
