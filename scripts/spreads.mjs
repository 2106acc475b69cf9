/**
 * No list is spread into the arguments of a call: some hundred thousand arguments are more than the stack holds, and how
 * long a list gets is up to the image. What a function was called with may be handed on as it came: a rest parameter.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { ROOT } from './prepare.mjs';

/** C functions have a fixed number of parameters, passed as a list here. */
const FOREIGN_CALLS = [
  'src/storage/local/native.ts',
  'src/codec/system-zstd.ts',
  'src/codec/system-deflate.ts',
  'src/codec/system-library.ts',
];

/** Every place in `src/` that spreads a list into arguments, one sentence each. */
export function findSpreadProblems() {
  return readdirSync(join(ROOT, 'src'), { recursive: true })
    .map((name) => `src/${name.replaceAll('\\', '/')}`)
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts') && !FOREIGN_CALLS.includes(name))
    .sort()
    .flatMap((file) => spreadsIn(file, readFileSync(join(ROOT, file), 'utf8')));
}

/**
 * The problems of one file.
 * @param {string} file Path relative to the package.
 * @param {string} text Its source.
 * @returns {string[]}
 */
export function spreadsIn(file, text) {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true);
  const problems = [];
  const visit = (node) => {
    if ((ts.isCallExpression(node) || ts.isNewExpression(node)) && spreadsAList(node)) {
      const { line } = source.getLineAndCharacterOfPosition(node.getStart(source));
      problems.push(`${file}:${line + 1}: a list is spread into arguments; its length has no bound`);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return problems;
}

/** Also in its old form: `call.apply(null, list)`, `Reflect.apply(call, null, list)`. */
function spreadsAList(node) {
  const list = node.arguments ?? [];
  if (list.some((one) => ts.isSpreadElement(one) && !isRestParameter(one.expression))) return true;
  if (!ts.isPropertyAccessExpression(node.expression) || node.expression.name.text !== 'apply') return false;
  const owner = node.expression.expression;
  if (ts.isIdentifier(owner) && owner.text === 'Reflect') return true;
  const [self] = list;
  const noObject = self?.kind === ts.SyntaxKind.NullKeyword || self?.kind === ts.SyntaxKind.ThisKeyword;
  return list.length === 2 && (noObject || (ts.isIdentifier(self) && self.text === 'undefined'));
}

/** The name of a rest parameter of a function around it. */
function isRestParameter(expression) {
  if (!ts.isIdentifier(expression)) return false;
  for (let node = expression.parent; node !== undefined; node = node.parent) {
    if (!ts.isFunctionLike(node)) continue;
    const named = node.parameters.find(({ name }) => ts.isIdentifier(name) && name.text === expression.text);
    if (named !== undefined) return named.dotDotDotToken !== undefined;
  }
  return false;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const problems = findSpreadProblems();
  for (const problem of problems) console.log(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
