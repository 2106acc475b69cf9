/** Giving the event loop its turn, in Node and in browsers. */

/** Runs something when the events that are there by now were handled. */
export const afterEvents: (run: () => void) => void =
  typeof globalThis.setImmediate === 'function' ? (run) => void globalThis.setImmediate(run) : makeAfterEvents();

/** Pages hold timers back by milliseconds; messages come at once. */
function makeAfterEvents(): (run: () => void) => void {
  return (run) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      run();
    };
    port2.postMessage(null);
  };
}
