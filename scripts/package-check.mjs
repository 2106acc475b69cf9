/** Builds the package and has publint look at it as its users will. */
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { ensureBuilt, ROOT } from './prepare.mjs';

ensureBuilt();
const { messages, pkg } = await publint({ pkgDir: ROOT, pack: false, strict: true });
const problems = messages.filter((message) => message.type !== 'suggestion');
for (const message of problems) console.log(formatMessage(message, pkg));
process.exitCode = problems.length === 0 ? 0 : 1;
