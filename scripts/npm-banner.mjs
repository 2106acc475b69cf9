/** Commands whose output npm would spoil: `npm start` prints a banner to standard output before the command begins. */

/**
 * True when standard output leads into a file or a pipe, holds data for a program, and already holds npm's banner.
 * `words` are those behind `npm start --`.
 */
export function isSpoiltByNpm(words, env, isTerminal) {
  const banner = env.npm_lifecycle_event === 'start' && env.npm_config_loglevel !== 'silent';
  return banner && !isTerminal && writesData(words);
}

/** Raw bytes, JSON or a script on standard output; a report for people is fine with a banner above it. */
function writesData(words) {
  if (words.includes('--json') || words.includes('completion')) return true;
  // The first of two names is the source.
  return words.some((word, at) => word === '-' && (words[at + 1] ?? '-').startsWith('-'));
}

/** Words as a POSIX shell takes them. */
export function shellWords(words) {
  const quote = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);
  return words.map(quote).join(' ');
}
