/** Rows of image formats: conversions both ways and scattered writes. A format costs a line for each. */
import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { basename, extname, join } from 'node:path';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

/**
 * What is converted to and from. `peer`: QEMU's driver and subformat, if it has some; `to` and `from`: aim and limit of the ratio, of
 * the whole and of the slope; `pairs`: for a peer that takes long.
 */
const CONVERTED = [
  { format: 'vmdk', kind: 'sparse', word: 'dynamic', peer: ['vmdk', 'monolithicSparse'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'vmdk', kind: 'flat', word: 'fixed', peer: ['vmdk', 'monolithicFlat'], to: [0.9, 1], from: [0.9, 1] },
  {
    ...{ format: 'vmdk', kind: 'stream', word: 'stream', peer: ['vmdk', 'streamOptimized'], pairs: 3 },
    ...{ to: [0.4, 0.5], from: [0.9, 0.9] },
  },
  { format: 'vhd', kind: 'dynamic', word: 'dynamic', peer: ['vpc', 'dynamic'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'vhd', kind: 'fixed', word: 'fixed', peer: ['vpc', 'fixed'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'vhdx', kind: 'dynamic', word: 'dynamic', peer: ['vhdx', 'dynamic'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'vhdx', kind: 'fixed', word: 'fixed', peer: ['vhdx', 'fixed'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'qed', kind: 'dynamic', word: 'dynamic', peer: ['qed'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'qcow', kind: 'dynamic', word: 'dynamic', peer: ['qcow'], to: [0.9, 1], from: [0.9, 1] },
  { format: 'parallels', kind: 'dynamic', word: 'dynamic', peer: ['parallels'], to: [0.9, 1], from: [0.9, 1] },
];

/** Empty images that get 100,000 scattered writes of 4 KiB. */
const SCATTERED = [
  { format: 'qcow2', peer: 'qcow2', aim: 0.9, limit: 1 },
  { format: 'vmdk', peer: 'vmdk', aim: 1, limit: 1 },
  { format: 'vhdx', peer: 'vhdx', aim: 1, limit: 1 },
];

/** Images of many extents, or of a huge disk, that a conversion to raw must not need memory or time for. */
const LARGE = [
  {
    ...{ name: 'vmdk of 100 extents', format: 'vmdk', variant: ['split'], size: 100 * 2047 * MIB },
    ...{ step: 2047 * MIB, piece: 4 * MIB, memory: 150 * MIB },
  },
  {
    ...{ name: 'vhdx of 64 TiB with 1 GiB of data', format: 'vhdx', variant: ['dynamic'], size: 65_536 * GIB },
    ...{ step: 64 * GIB, piece: MIB, memory: 200 * MIB, time: 5000 },
  },
];

/** Pieces of 4 KiB all over an empty disk: the step is coprime to the disk, counted in such pieces. */
const WRITES = { disk: GIB, count: 100_000, bytes: 4096, step: 77_773 * 4096, depth: 64 };

/**
 * Rows for the formats that this build can create, and `prepare`, which makes their files.
 * @param {object} place
 * @param {string} place.folder
 * @param {string} place.program vdkit's.
 * @param {string} place.qemuImg
 * @param {{ raw: string, small: string, tiny: string }} place.disks Raw disks: 2 GiB, a quarter of that, 1 MiB.
 */
export function imageRows({ folder, program, qemuImg, disks }) {
  const known = creatableFormats(program);
  const at = (name) => join(folder, name);
  const fresh = () => {
    for (const name of readdirSync(folder)) if (name.startsWith('new')) rmSync(at(name));
  };
  const vdkit = (...args) => ({ program: process.execPath, args: [program, ...args, '--quiet'], before: fresh });
  // vdkit's targets are durable when it ends; so qemu-img must flush too, which its default does not.
  const qemu = (...args) => ({ program: qemuImg, args: ['convert', '-t', 'writeback', ...args], before: fresh });
  const target = at('new.raw');
  const imageOf = ({ format, kind }, disk) => at(`${kind}-${basename(disk, extname(disk))}.${format}`);
  const written = (row, disk) => {
    const { format, word, peer } = row;
    const image = at(`new.${format}`);
    return {
      ours: vdkit('convert', disk, image, '--format', 'raw', '--to', format, '--variant', word),
      theirs: qemu('-f', 'raw', ...asPeer(peer), disk, image),
    };
  };
  const read = (row, disk) => ({
    ours: vdkit('convert', imageOf(row, disk), target, '--format', row.format, '--to', 'raw'),
    theirs: qemu('-f', row.peer[0], '-O', 'raw', imageOf(row, disk), target),
  });
  const converted = (name, make, { pairs }, [aim, limit]) => [
    { name: `convert ${name}`, measures: 'pairs', ...make(disks.raw), pairs, aim, limit },
    {
      name: `convert ${name}: slope`,
      measures: 'slope',
      ...make(disks.raw),
      small: make(disks.small),
      pairs,
      aim,
      limit,
    },
    { name: `convert ${name}: fixed part`, measures: 'fixed', ...make(disks.tiny), aim: 60, limit: 120 },
  ];
  const bothWays = (row) => [
    ...converted(`raw to ${row.format}, ${row.kind}`, (disk) => written(row, disk), row, row.to),
    ...converted(`${row.format} to raw, ${row.kind}`, (disk) => read(row, disk), row, row.from),
  ];
  const scattered = ({ format, peer, aim, limit }) => {
    const image = at(`new.${format}`);
    const before = () => {
      fresh();
      execFileSync(qemuImg, ['create', '-q', '-f', peer, image, String(WRITES.disk)]);
    };
    const { count, bytes, step, depth } = WRITES;
    const ours = [join(import.meta.dirname, 'writes.mjs'), ...[image, count, bytes, step, depth].map(String)];
    const theirs = [
      // Zeroes, which are its default, would be left out by one side.
      ...['bench', '-w', '-q', '-f', peer, '-t', 'writeback', '--pattern=1', '-c', String(count)],
      ...['-s', String(bytes), '-S', String(step), '-d', String(depth), image],
    ];
    return {
      ...{ name: `${format}: 100,000 scattered writes of 4 KiB`, measures: 'pairs', aim, limit },
      ours: { program: process.execPath, args: ours, before },
      theirs: { program: qemuImg, args: theirs, before },
    };
  };
  const largeOf = ({ name, format }) => at(`${name.replaceAll(' ', '-')}.${format}`);
  const large = (row) => {
    const { name, format, memory, time } = row;
    const ours = vdkit('convert', largeOf(row), target, '--format', format, '--to', 'raw');
    return [
      ...(time === undefined ? [] : [{ name: `convert ${name}`, measures: 'time', ours, aim: time, limit: time }]),
      { name: `convert ${name}: peak memory`, measures: 'memory', ours, aim: memory, limit: memory },
    ];
  };
  const here = (rows) => rows.filter(({ format }) => known.has(format));
  return {
    cases: [...here(SCATTERED).map(scattered), ...here(CONVERTED).flatMap(bothWays), ...here(LARGE).flatMap(large)],
    /** Which of the raw disks the rows that are chosen need, as sources or to make them of. */
    disksOf: (/** @type {(file: string) => boolean} */ needs) =>
      Object.values(disks).filter((disk) => needs(disk) || CONVERTED.some((row) => needs(imageOf(row, disk)))),
    prepare(/** @type {(file: string) => boolean} */ needs) {
      for (const disk of Object.values(disks)) {
        for (const row of CONVERTED.filter((one) => needs(imageOf(one, disk)))) {
          execFileSync(qemuImg, ['convert', '-f', 'raw', ...asPeer(row.peer), disk, imageOf(row, disk)]);
        }
      }
      for (const row of LARGE) if (needs(largeOf(row))) makeLarge(largeOf(row), row);
    },
  };
}

/** Words of `qemu-img` for a target of this kind. */
function asPeer(/** @type {readonly string[]} */ [driver = '', subformat]) {
  return ['-O', driver, ...(subformat === undefined ? [] : ['-o', `subformat=${subformat}`])];
}

/** Names of the formats that this build can create. */
function creatableFormats(/** @type {string} */ program) {
  const { formats } = JSON.parse(execFileSync(process.execPath, [program, 'formats', '--json'], { encoding: 'utf8' }));
  return new Set(formats.filter(({ create }) => create).map(({ name }) => name));
}

/** An image with a piece of data at each step. */
function makeLarge(/** @type {string} */ path, { format, variant, size, step, piece }) {
  const program = `
    const { Disk } = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)});
    const { format, variant, size, step, piece } = ${JSON.stringify({ format, variant, size, step, piece })};
    const disk = await Disk.create(${JSON.stringify(path)}, { size, format, variant });
    for (let at = 0; at < disk.size; at += step) await disk.write(at, new Uint8Array(piece).fill(1));
    await disk.close();`;
  execFileSync(process.execPath, ['--input-type=module', '-e', program]);
}
