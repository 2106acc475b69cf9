/**
 * Language checks: openings of doc comments, words to avoid in comments, documents and help, and names in public
 * docstrings that mean nothing to users of the package.
 */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { filesUnder, markdownFiles, publicSymbols } from './docs-check.mjs';
import { ROOT } from './prepare.mjs';

/** Share of doc comments that may open with a question word. */
const OPENINGS_MAX = 0.01;
const OPENING = /^(what|how|where|whether|who|whose|why|whoever|whatever|wherever)\b/i;

/** Words to avoid, each with advice. */
const AVOIDED = [
  [/\banew\b/i, 'write "again" or "from scratch"'],
  [/\bshall\b/i, 'write "will", "must", or the plain verb'],
  [/\bso many\b/i, 'write "this many", or name the number'],
  [/\bof (its|their) own\b/i, 'write "separate", "private" or "its own"'],
  [/\bnobody\b/i, 'name the program or person, or write "no one"'],
  [/\bwhoever\b/i, 'name the program, the caller or the person'],
  [/\bto be had\b/i, 'write "available"'],
  [/\b(is|are) told of\b/i, 'write "receives"'],
  [
    /(?<!\bthere )\b(is|are|was|were) no (?!(longer|more|less|other|such|better|worse|larger|smaller|one|need|point)\b)[a-z]+/i,
    'write "is not a" or "has no"',
  ],
  [/\bheed(s|ed)?\b/i, 'write "respect" or "check"'],
];
/** Phrases with a plain alternative everywhere: also in comments inside functions and in titles of tests. */
const PHRASES = AVOIDED.slice(0, 8);

/** Words to avoid in messages, each with advice. */
const IN_MESSAGES = [
  ...AVOIDED,
  [/\bnot usable\b/i, 'write "not valid"'],
  [/\bbehind the end\b/i, 'write "beyond the end"'],
  [/\bmake room\b/i, 'write "free some space"'],
  [/\b(it|the same) all the same\b/i, 'write "anyway", or "proceed with option …"'],
  [/\bthan (it|they) may\b/i, 'write "exceeds its limit"'],
];

/** Places where such words are right, as `file: words`, each with a reason. */
const EXCEPTIONS = new Set([]);

/** All problems, one sentence each. */
export function findWordProblems() {
  const comments = ['src', 'test', 'scripts', 'bench'].flatMap((folder) => docComments(folder));
  return [
    ...findOpenings(comments),
    ...comments.flatMap(({ place, text }) => findAvoided(place, text)),
    ...markdownFiles().flatMap((file) => findAvoided(file, readFileSync(join(ROOT, file), 'utf8'))),
    ...helpTexts().flatMap(({ place, text }) => findAvoided(place, text)),
    ...['src', 'test']
      .flatMap((folder) => filesUnder(folder, /\.ts$/))
      .flatMap((file) => sourceProblems(file, readFileSync(join(ROOT, file), 'utf8'))),
    ...findForeignNames(),
  ];
}

function findOpenings(comments) {
  const wrong = comments.filter(({ text }) => OPENING.test(text));
  const most = Math.floor(comments.length * OPENINGS_MAX);
  if (wrong.length <= most) return [];
  const list = wrong.map(({ place, text }) => `  ${place}: ${text.slice(0, 60)}`);
  return [
    `${wrong.length} of ${comments.length} doc comments open with a question word, at most ${most} may: begin with a ` +
      `noun phrase ("Options for a copy") or a verb ("Returns the …")\n${list.join('\n')}`,
  ];
}

/** Phrases to avoid in the comments of a source, in titles of tests, and in messages of the library. */
export function sourceProblems(file, source) {
  const tree = ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true);
  const isTest = file.endsWith('.test.ts');
  const isMessage = file.startsWith('src') && !isTest;
  const problems = [];
  const add = (node, text, rules) => {
    const { line } = tree.getLineAndCharacterOfPosition(node.getStart());
    problems.push(...findAvoided(`${file}:${line + 1}`, text, rules));
  };
  const visit = (node) => {
    if (isMessage && isSentence(node)) add(node, node.getText(), IN_MESSAGES);
    if (isTest && ts.isCallExpression(node) && isTitled(node)) add(node, node.arguments[0].getText(), PHRASES);
    ts.forEachChild(node, visit);
  };
  visit(tree);
  for (const match of source.matchAll(/^\s*\/\/ (.*)$/gm)) {
    const line = source.slice(0, match.index).split('\n').length + (match[0].match(/\n/g)?.length ?? 0);
    problems.push(...findAvoided(`${file}:${line}`, match[1], PHRASES));
  }
  return problems;
}

function isSentence(node) {
  return (ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)) && /[a-z] [a-z]/i.test(node.getText());
}

function isTitled({ expression, arguments: [title] }) {
  return (
    /^(it|describe|describeWithPeers|test)\b/.test(expression.getText()) && title !== undefined && isSentence(title)
  );
}

function findAvoided(place, text, rules = AVOIDED) {
  return rules.flatMap(([words, advice]) => {
    const found = [...text.matchAll(new RegExp(words, 'gi'))].map(([match]) => match);
    const wrong = found.filter((match) => !EXCEPTIONS.has(`${place.replace(/:\d+$/, '')}: ${match.toLowerCase()}`));
    return wrong.map((match) => `${place}: "${match}": ${advice}`);
  });
}

/** Every doc comment below a folder, without its stars. */
function docComments(folder) {
  return filesUnder(folder, /\.(ts|mjs)$/).flatMap((file) => {
    const source = readFileSync(join(ROOT, file), 'utf8');
    return [...commentsOf(ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true))].map(({ pos, end }) => ({
      place: `${file}:${source.slice(0, pos).split('\n').length}`,
      text: source
        .slice(pos + 3, end - 2)
        .replace(/\n\s*\* ?/g, '\n')
        .trim(),
    }));
  });
}

function* commentsOf(source) {
  const seen = new Set();
  const found = [];
  const visit = (node) => {
    for (const range of ts.getLeadingCommentRanges(source.text, node.pos) ?? []) {
      if (seen.has(range.pos) || !source.text.startsWith('/**', range.pos)) continue;
      seen.add(range.pos);
      found.push(range);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  visit(source.endOfFileToken);
  yield* found;
}

/** Texts of the command table: summaries, descriptions and examples. */
function helpTexts() {
  const file = 'src/cli/table.ts';
  const source = ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest);
  const found = [];
  const visit = (node) => {
    if (ts.isStringLiteralLike(node)) {
      const line = source.getLineAndCharacterOfPosition(node.pos).line + 1;
      found.push({ place: `${file}:${line}`, text: node.text });
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return found;
}

/** Public docstrings that name a source file, or a function that the package does not export. */
function findForeignNames() {
  const symbols = [...publicSymbols()];
  const known = new Set(symbols.map(({ name }) => name));
  const texts = symbols.flatMap(({ symbol, checker }) => docstringsOf(symbol, checker, known));
  const internal = new Set(filesUnder('src', /(?<!\.test)\.ts$/).flatMap((file) => functionsIn(file)));
  return texts.flatMap(({ place, text }) => {
    const files = text.match(/\b[\w./-]+\.(ts|mjs)\b|\bsrc\/\S+/g) ?? [];
    // One-word names may be plain words, such as a kind of error.
    const quoted = [...text.matchAll(/`(?:\w+\.)?([a-z]+[A-Z]\w*)(?:\(\))?`/g)].map(([, name]) => name ?? '');
    const functions = quoted.filter((name) => internal.has(name) && !known.has(name));
    return [...files, ...functions].map(
      (name) => `${place}: the public docstring names "${name}", which users do not have`,
    );
  });
}

/** Docstrings of a symbol and its members; adds the names of the members to `known`. */
function docstringsOf(symbol, checker, known) {
  const members = [...(symbol.members?.values() ?? []), ...(symbol.exports?.values() ?? [])].filter(isVisible);
  for (const member of members) known.add(member.name);
  for (const { parameters = [] } of symbol.declarations ?? []) {
    for (const { name } of parameters) known.add(name.getText());
  }
  return [symbol, ...members].map((one) => ({
    place: placeOf(one),
    text: ts.displayPartsToString(one.getDocumentationComment(checker)),
  }));
}

function isVisible({ declarations = [] }) {
  return declarations.every((one) => !ts.isPrivateIdentifier(one.name ?? one));
}

function placeOf({ name, declarations: [first] = [] }) {
  return first === undefined ? name : `${relative(ROOT, first.getSourceFile().fileName)}: ${name}`;
}

/** Names of functions that a module declares at its top level. */
function functionsIn(file) {
  const source = ts.createSourceFile(file, readFileSync(join(ROOT, file), 'utf8'), ts.ScriptTarget.Latest);
  return source.statements.filter(ts.isFunctionDeclaration).map(({ name }) => name?.text ?? '');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const problems = findWordProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
