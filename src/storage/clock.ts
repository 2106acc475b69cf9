/** Measuring how long something takes. */

/** What Node has besides `performance`, which it loads on first use: that takes a start two milliseconds. */
const { process: node } = globalThis as { process?: { hrtime?: { bigint(): bigint } } };

/** Milliseconds from any start. */
export function nowMs(): number {
  return node?.hrtime === undefined ? performance.now() : Number(node.hrtime.bigint()) / 1e6;
}
