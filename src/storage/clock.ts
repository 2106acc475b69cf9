/** Time measurement. */

/** Node's clock without `performance`, which is loaded on first use and costs two milliseconds of a start. */
const { process: node } = globalThis as { process?: { hrtime?: { bigint(): bigint } | undefined } | undefined };

/** Milliseconds since an arbitrary start. */
export function nowMs(): number {
  return node?.hrtime === undefined ? performance.now() : Number(node.hrtime.bigint()) / 1e6;
}
