/**
 * Runs before `npm pack` and `npm publish`: installs and builds what a fresh clone lacks, and stops npm if a file that
 * package.json promises is still missing. All output goes to stderr, since npm's stdout may be JSON.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { missingFiles } from './package-files.mjs';
import { checkNode, ensureBuilt, ensureInstalled, ROOT } from './prepare.mjs';

checkNode();
ensureInstalled();
ensureBuilt();

const built = existsSync(join(ROOT, 'dist')) ? readdirSync(join(ROOT, 'dist'), { recursive: true }) : [];
const files = built.map((name) => `dist/${name.replaceAll('\\', '/')}`);
const missing = missingFiles(JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')), files);
for (const file of missing) console.error(`error: package.json names ${file}, which was not built`);
if (missing.length > 0) console.error('hint: Delete dist and run the command again.');
process.exitCode = missing.length > 0 ? 1 : 0;
