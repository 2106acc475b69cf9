/**
 * Synchronous work of this thread per turn of the event loop: promises that never wait would starve timers, sockets and
 * signals.
 */

/** Small reads and writes in one turn: a fifth of a millisecond. */
const TURN_CALLS = 64;

let left = TURN_CALLS;
let waiting = false;

function nextTurn(): void {
  left = TURN_CALLS;
  waiting = false;
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
