/** Long work yields to the event loop, and ends when cancelled. */
import { describe, expect, it } from 'vitest';
import { expectKind } from '../../test/conformance/expect-kind.ts';
import { Turns } from './turns.ts';

describe('work in turns', () => {
  it('waits only when its time is over', () => {
    let now = 0;
    const turns = new Turns(undefined, 'The work', () => now);
    for (let step = 0; step < 10_000; step++) expect(turns.take()).toBeUndefined();
    now = 1000;
    const waits = Array.from({ length: 10_000 }, () => turns.take()).filter((wait) => wait !== undefined);
    expect(waits.length).toBeGreaterThan(0);
  });

  it('lets a signal be heard by a loop that never waits otherwise', async () => {
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    let now = 0;
    const turns = new Turns(controller.signal, 'The work', () => now++);
    const loop = async (): Promise<void> => {
      for (;;) {
        const turn = turns.take();
        if (turn !== undefined) await turn;
      }
    };
    await expectKind(loop, 'aborted');
    await expectKind(() => turns.take(), 'aborted');
  });

  it('counts a long step as many', () => {
    let now = 0;
    const turns = new Turns(undefined, 'The work', () => now);
    now = 1000;
    expect(turns.take(255)).toBeUndefined();
    expect(turns.take(1)).toBeInstanceOf(Promise);
  });
});
