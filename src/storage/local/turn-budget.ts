/**
 * What this thread may do itself in one turn of the event loop, before others have theirs: a chain of promises whose
 * steps never wait would keep timers, sockets and signals from being heard.
 */

/** Small reads and writes in one turn: a fifth of a millisecond. */
const TURN_CALLS = 64;

let left = TURN_CALLS;
let waiting = false;

function nextTurn(): void {
  left = TURN_CALLS;
  waiting = false;
}

/** True when one more call may be made at once. */
export function takeFromTurn(): boolean {
  if (left === 0) return false;
  left--;
  if (!waiting) {
    waiting = true;
    setImmediate(nextTurn);
  }
  return true;
}
