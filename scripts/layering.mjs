/**
 * Arrows point down only: which folder of `src/` may import which. Also keeps `node:` modules and `Buffer` where the
 * browser will never meet them. Tests may import anything.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { ROOT } from './prepare.mjs';

const BASE = ['errors', 'limits', 'arguments'];
const LOW = [...BASE, 'binary'];
const IMAGE = [...LOW, 'codec', 'storage', 'image'];
/** Formats take what they share from the shelf. */
const SHELF = [...IMAGE, 'blocks'];
const DISK = [...IMAGE, 'formats', 'filters', 'disk'];
const OPERATIONS = [...DISK, 'operations'];

/** Layer: what it may import beside itself. A layer that is not here may import nothing. */
const MAY_IMPORT = {
  errors: [],
  limits: [],
  arguments: ['errors'],
  binary: BASE,
  codec: LOW,
  storage: LOW,
  image: [...LOW, 'codec', 'storage'],
  // The shelf for format authors.
  blocks: IMAGE,
  // A format or filter never imports another; their `index.ts` is the only list of them.
  format: SHELF,
  filter: IMAGE,
  // The default registry has the filters, too.
  formats: [...IMAGE, 'format', 'filters'],
  filters: [...IMAGE, 'filter'],
  disk: [...IMAGE, 'formats', 'filters'],
  // Whole images: a disk is one of their means.
  operations: [...DISK, 'blocks'],
  io: DISK,
  vfs: [...OPERATIONS, 'io'],
  plugin: DISK,
  nbd: [...DISK, 'io'],
  testing: OPERATIONS,
  index: [...OPERATIONS, 'format', 'filter', 'io', 'vfs', 'plugin', 'nbd'],
  cli: [...OPERATIONS, 'index', 'io', 'vfs', 'plugin', 'nbd'],
};
/** Rooms of `src/disk/`, the lowest first: each may import those before it. `disk.ts`, the disk itself, lies above all. */
const DISK_ROOMS = ['path', 'open', 'change'];
/** Files beside the rooms that all of them may import. */
const DISK_COMMON = ['device', 'kinds', 'options'];
const NODE_MODULES = ['src/storage/local', 'src/codec/', 'src/nbd/', 'src/plugin/', 'src/cli/'];
const BUFFER = ['src/storage/', 'src/codec/'];

/** Everything in `src/` that breaks a rule, one sentence each. */
export function findLayeringProblems() {
  const files = readdirSync(join(ROOT, 'src'), { recursive: true })
    .map((name) => `src/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'))
    .sort();
  return files.flatMap((file) => checkFile(file, readFileSync(join(ROOT, file), 'utf8')));
}

/**
 * The problems of one file.
 * @param {string} file Path relative to the package.
 * @param {string} text Its source.
 * @returns {string[]}
 */
export function checkFile(file, text) {
  const problems = [];
  for (const { fileName: wanted } of ts.preProcessFile(text, true, true).importedFiles) {
    const problem = wanted.startsWith('.') ? checkRelative(file, wanted) : checkPackage(file, wanted);
    if (problem !== null) problems.push(`${file}: ${problem}`);
  }
  if (!isIn(file, BUFFER)) problems.push(...findBuffer(file, text));
  return problems;
}

function checkPackage(file, wanted) {
  if (!wanted.startsWith('node:') || isIn(file, NODE_MODULES)) return null;
  return `${wanted} may be imported only in ${NODE_MODULES.join(', ')}`;
}

function checkRelative(file, wanted) {
  const target = relative(ROOT, join(ROOT, dirname(file), wanted)).replaceAll('\\', '/');
  if (!target.startsWith('src/')) return `${wanted} lies outside of src/`;
  const [from, to] = [placeOf(file), placeOf(target)];
  if (from.layer === 'disk' && to.layer === 'disk') return checkRooms(file, target);
  if (from.unit === to.unit) return null;
  const layerAllowed = (MAY_IMPORT[from.layer] ?? []).includes(to.layer);
  if (layerAllowed) return null;
  return `${from.unit} must not import ${to.unit} (${target})`;
}

function checkRooms(file, target) {
  const [from, to] = [floorOf(file), floorOf(target)];
  if (to <= from) return null;
  return `${file.slice(0, file.lastIndexOf('/'))} must not import ${target}, which lies above it`;
}

function floorOf(file) {
  const [, , room = '', inRoom] = file.split('/');
  if (inRoom !== undefined) return 1 + DISK_ROOMS.indexOf(room);
  return DISK_COMMON.includes(room.replace(/\.ts$/, '')) ? 0 : 1 + DISK_ROOMS.length;
}

/** The layer decides what is allowed; inside one unit everything is. */
function placeOf(file) {
  const [, top = '', second = ''] = file.split('/');
  if (second === '') {
    const layer = top.replace(/\.ts$/, '');
    return { layer, unit: layer };
  }
  const inFolder = file.split('/').length > 3;
  if (top === 'formats' && inFolder) return { layer: 'format', unit: `formats/${second}` };
  if (top === 'filters' && inFolder) return { layer: 'filter', unit: `filters/${second}` };
  return { layer: top, unit: top };
}

function findBuffer(file, text) {
  if (!text.includes('Buffer')) return [];
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest);
  const problems = [];
  const visit = (node) => {
    if (ts.isIdentifier(node) && node.text === 'Buffer') {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      problems.push(`${file}:${line + 1}: Buffer may be used only in ${BUFFER.join(', ')}`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return problems;
}

function isIn(file, folders) {
  return folders.some((folder) => file.startsWith(folder));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const problems = findLayeringProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
