/** Memory of a child process, for the bounds of its cases. */
import { readFileSync, writeFileSync } from 'node:fs';

/**
 * Most bytes that this process has had in memory at a time. The counter of `getrusage` goes on from that of the parent
 * process on Linux, where a new program begins with the peak of the one that started it.
 */
export function peakBytes() {
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(statusOfProcess())?.[1];
  return (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes)) * 1024;
}

/**
 * Frees what nothing uses, and begins to count from what is left: the bytes in memory. Systems that cannot do so count
 * on. Needs `--expose-gc`.
 */
export function rest() {
  globalThis.gc?.();
  try {
    writeFileSync('/proc/self/clear_refs', '5');
  } catch {
    // Linux alone has it.
  }
  return peakBytes();
}

function statusOfProcess() {
  try {
    return readFileSync('/proc/self/status', 'latin1');
  } catch {
    return '';
  }
}
