/** Built files that package.json names. */

/** Files behind `bin`, `exports` and `imports` that are not in a list of paths; a pattern needs one match. */
export function missingFiles({ bin = {}, exports = {}, imports = {} }, paths) {
  const named = [...new Set(targetsOf([bin, exports, imports]))].filter((target) => target.startsWith('./dist/'));
  return named.map((target) => target.slice('./'.length)).filter((file) => !paths.some((path) => fits(path, file)));
}

function targetsOf(value) {
  if (value === null) return [];
  return typeof value === 'string' ? [value] : Object.values(value).flatMap(targetsOf);
}

function fits(path, pattern) {
  const [before, after] = pattern.split('*');
  if (after === undefined) return path === pattern;
  return path.startsWith(before) && path.endsWith(after) && path.length > before.length + after.length;
}
