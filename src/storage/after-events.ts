/** Yielding to the event loop, in Node and in browsers. */

/** Runs a function after all events that are pending now. */
export const afterEvents: (run: () => void) => void =
  typeof globalThis.setImmediate === 'function' ? (run) => void globalThis.setImmediate(run) : makeAfterEvents();

/** Pages throttle timers to milliseconds; messages arrive at once. */
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
