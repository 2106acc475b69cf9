/**
 * Synchronous work of this thread per turn of the event loop: promises that never wait would starve timers, sockets and
 * signals.
 */

/** Small reads and writes in one turn: a fifth of a millisecond. */
const TURN_CALLS = 64;

let left = TURN_CALLS;
let waiting = false;
/** Calls for later turns, in their order. */
let later: (() => void)[] = [];

function nextTurn(): void {
  const now = later.slice(0, TURN_CALLS);
  later = later.slice(TURN_CALLS);
  left = TURN_CALLS - now.length;
  waiting = now.length > 0;
  if (waiting) setImmediate(nextTurn);
  for (const call of now) call();
}

/** True when another synchronous call may be made. */
export function takeFromTurn(): boolean {
  if (left === 0) return false;
  left--;
  if (!waiting) {
    waiting = true;
    setImmediate(nextTurn);
  }
  return true;
}

/** Runs a call in the first later turn that has one left, after `takeFromTurn` refused it. It must not throw. */
export function runInLaterTurn(call: () => void): void {
  later.push(call);
}
