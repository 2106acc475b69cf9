/**
 * `npm start -- <command> …`: the command line from a clone. Installs and builds when needed, then becomes the built
 * program, in this very process: arguments, streams, signals and the exit status are its own.
 */

import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { checkNode, ensureBuilt, ensureInstalled, ROOT } from './prepare.mjs';

checkNode();
ensureInstalled();
ensureBuilt();

// npm changes into the package's folder; the names that a person types are meant from where they stand.
const from = process.env.INIT_CWD;
if (from !== undefined && process.env.npm_lifecycle_event === 'start') process.chdir(from);

const program = join(ROOT, 'dist', 'cli', 'bin.js');
process.argv[1] = program;
await import(pathToFileURL(program).href);
