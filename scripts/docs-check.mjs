/**
 * Checks of the documentation: every public export has a doc comment, links inside the documents resolve, and a file of
 * more than 600 lines gives a reason in its header.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { ROOT } from './prepare.mjs';

const LINES_MAX = 600;
/** The words that introduce the reason in a header. */
const LONG_FILE_REASON = /long file:/i;

/** Everything that is wrong, one sentence each. */
export function findDocProblems() {
  return [...findUndocumented(entryPoints()), ...findBadLinks(), ...findLongFiles()];
}

/** Sources of the package's entry points, from its exports map. */
function entryPoints() {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  const sourceOf = (target) => target.replace('./dist/', 'src/').replace(/\.js$/, '.ts');
  // Null: a folder of a pattern that is not an entry point.
  const excluded = Object.keys(exports).filter((name) => exports[name] === null);
  const closed = excluded.map((name) => join(ROOT, 'src', name, 'index.ts'));
  return Object.values(exports)
    .filter((target) => typeof target === 'object' && target !== null)
    .flatMap(({ default: built }) => matching(sourceOf(built)))
    .filter((entry) => !closed.includes(entry));
}

/** The files of a pattern with one `*`, which stands for a folder. */
function matching(pattern) {
  const [before, after] = pattern.split('*');
  if (after === undefined) return [join(ROOT, pattern)];
  const folders = readdirSync(join(ROOT, before), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders.map(({ name }) => join(ROOT, before, `${name}${after}`));
}

function findUndocumented(entries) {
  const missing = entries.filter((entry) => !existsSync(entry));
  const problems = missing.map((entry) => `${relative(ROOT, entry)} is in the exports map but does not exist`);
  for (const { name, symbol, checker } of publicSymbols()) {
    if (symbol.getDocumentationComment(checker).length > 0) continue;
    problems.push(`${placeOf(symbol)}: ${name} has no doc comment`);
  }
  return problems;
}

/** Every symbol that an entry point exports, once, with the type checker that it belongs to. */
export function* publicSymbols() {
  const config = ts.readConfigFile(join(ROOT, 'tsconfig.json'), ts.sys.readFile).config;
  const { options } = ts.convertCompilerOptionsFromJson(config.compilerOptions, ROOT);
  const program = ts.createProgram(
    entryPoints().filter((entry) => existsSync(entry)),
    { ...options, noEmit: true },
  );
  const checker = program.getTypeChecker();
  const seen = new Set();
  for (const entry of program.getRootFileNames()) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(entry));
    for (const exported of module === undefined ? [] : checker.getExportsOfModule(module)) {
      const symbol = exported.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
      if (seen.has(symbol)) continue;
      seen.add(symbol);
      yield { name: exported.name, symbol, checker };
    }
  }
}

function placeOf(symbol) {
  const declaration = symbol.declarations?.[0];
  if (declaration === undefined) return 'src';
  const source = declaration.getSourceFile();
  return `${relative(ROOT, source.fileName)}:${source.getLineAndCharacterOfPosition(declaration.getStart()).line + 1}`;
}

function findBadLinks() {
  return markdownFiles().flatMap((file) => {
    const text = withoutCode(readFileSync(join(ROOT, file), 'utf8'));
    const links = [...text.matchAll(/\[[^\]]*\]\(([^()\s]+)\)/g)].map((match) => match[1] ?? '');
    return links.filter((link) => !leadsSomewhere(file, link)).map((link) => `${file}: the link ${link} leads nowhere`);
  });
}

function leadsSomewhere(file, link) {
  if (/^[a-z]+:/i.test(link)) return true;
  const [path = '', anchor] = link.split('#');
  const target = path === '' ? join(ROOT, file) : join(ROOT, dirname(file), path);
  if (!existsSync(target)) return false;
  if (anchor === undefined || statSync(target).isDirectory()) return true;
  return anchorsOf(readFileSync(target, 'utf8')).includes(anchor);
}

/** The anchors that GitHub gives to headings. */
function anchorsOf(text) {
  const headings = [...withoutCode(text).matchAll(/^#{1,6}\s+(.*)$/gm)].map((match) => match[1] ?? '');
  return headings.map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .trim()
      .replace(/\s/g, '-'),
  );
}

function withoutCode(text) {
  return text.replace(/^```[\s\S]*?^```/gm, '').replace(/`/g, '');
}

/**
 * Documents of the repository, as paths.
 *
 * @returns {string[]}
 */
export function markdownFiles() {
  return filesIn('.', ['README.md', 'CONTRIBUTING.md']).concat(
    ['docs', 'src', 'samples', 'test', 'bench'].flatMap((folder) => filesUnder(folder, /\.md$/)),
  );
}

function findLongFiles() {
  const files = ['src', 'test', 'scripts', 'bench'].flatMap((folder) => filesUnder(folder, /\.(ts|mjs)$/));
  return files.flatMap((file) => {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const lineCount = text.split('\n').length - 1;
    const header = /^(#!.*\n)?\s*\/\*[\s\S]*?\*\//.exec(text)?.[0] ?? '';
    if (lineCount <= LINES_MAX || LONG_FILE_REASON.test(header)) return [];
    return [`${file}: has ${lineCount} lines; split it, or give the reason in its header after "Long file:"`];
  });
}

function filesIn(folder, names) {
  return names.map((name) => join(folder, name)).filter((name) => existsSync(join(ROOT, name)));
}

/** Files below a folder of the repository whose names end like that. */
export function filesUnder(folder, ending) {
  if (!existsSync(join(ROOT, folder))) return [];
  return readdirSync(join(ROOT, folder), { recursive: true })
    .filter((name) => ending.test(name))
    .map((name) => join(folder, name));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const problems = findDocProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
