/** Another process that exchanges two names as fast as it can, for races that no test could win by itself. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

const EXCHANGER = `
  const koffi = require('koffi');
  const renameat2 = koffi.load(null).func('int renameat2(int, str, int, str, unsigned int)');
  const [one, other] = process.argv.slice(1);
  process.stdin.on('end', () => process.exit()).resume();
  const exchange = () => {
    for (let turn = 0; turn < 1000; turn++) renameat2(-100, one, -100, other, 2);
    setImmediate(exchange);
  };
  exchange();
  process.stdout.write('begun');
`;

/** Runs something while two names are exchanged all the time. Needs the calls of the system. */
export async function whileExchanged(one: string, other: string, run: () => Promise<void>): Promise<void> {
  const exchanger = spawn(process.execPath, ['-e', EXCHANGER, one, other], {
    cwd: ROOT,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(exchanger, 'close');
  try {
    await once(exchanger.stdout, 'data');
    await run();
  } finally {
    exchanger.stdin.end();
    await ended;
  }
}
