/** A child that does what a broken library would make it do: the title of a case says what. */
import { peakBytes } from './peak-memory.mjs';

const eaten = [];

process.on('message', (message) => {
  if (message.kind !== 'cases') return;
  const reports = message.works.map(({ title }) => {
    const findings = act(title);
    const milliseconds = title === 'slow' ? 1e6 : 1;
    return { findings, steps: [], milliseconds, peakBytes: peakBytes(), isTired: false, newBranches: [] };
  });
  process.send({ kind: 'reports', reports });
});
process.on('disconnect', () => process.exit());
process.send({ kind: 'ready' });

function act(title) {
  if (title === 'hang') for (;;);
  if (title === 'end') process.exit(3);
  if (title === 'heap') for (;;) eaten.push(new Array(100_000).fill(eaten.length));
  if (title === 'bytes') eaten.push(new Uint8Array(300 * 1024 * 1024).fill(1));
  return title === 'finding' ? ['something is wrong'] : [];
}
