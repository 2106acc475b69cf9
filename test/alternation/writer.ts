/** A program that does a session, so that it can be killed: the session stands in its argument as JSON. */
import { writeSync } from 'node:fs';
import { Disk } from '../../src/index.ts';
import type { Session } from './plan.ts';
import { perform } from './session.ts';

const { image, format, allow, operations }: Session = JSON.parse(process.argv[2] ?? '');

async function main(): Promise<void> {
  await using disk = await Disk.open(image, {
    ...{ mode: 'write', format, flushAfterMs: 0 },
    allow: ['same-directory', ...allow],
  });
  for (const [index, operation] of operations.entries()) {
    await perform(disk, operation);
    // At once: what is printed survives the kill.
    if (operation.act === 'flush') writeSync(1, `flushed ${index + 1}\n`);
  }
}

main().catch((error: unknown) => {
  writeSync(2, `error: ${String(error)}\n`);
  process.exitCode = 1;
});
