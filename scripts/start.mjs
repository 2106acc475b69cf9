/**
 * `npm start -- <command> …`: the command line from a clone. Installs and builds when needed, then becomes the built
 * program, in this very process: arguments, streams, signals and the exit status are those of the program.
 */

import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isSpoiltByNpm, shellWords } from './npm-banner.mjs';
import { checkNode, ensureBuilt, ensureInstalled, ROOT } from './prepare.mjs';

// npm changes into the package's folder; relative names start where the person typed them.
const from = process.env.INIT_CWD;
if (from !== undefined && process.env.npm_lifecycle_event === 'start') process.chdir(from);

const words = process.argv.slice(2);
if (isSpoiltByNpm(words, process.env, process.stdout.isTTY === true)) {
  const script = relative(process.cwd(), fileURLToPath(import.meta.url));
  console.error('error: npm has printed its banner to standard output, so the output would be damaged');
  console.error(`hint: Run: node ${shellWords([script, ...words])}`);
  process.exit(64);
}

checkNode();
ensureInstalled();
ensureBuilt();

const program = join(ROOT, 'dist', 'cli', 'bin.js');
process.argv[1] = program;
await import(pathToFileURL(program).href);
