/** Memory of a child process, for the bounds of its cases. */
import { readFileSync } from 'node:fs';

/**
 * Most bytes that this process has had in memory at a time. The counter of `getrusage` goes on from that of the parent
 * process on Linux, where a new program begins with the peak of the one that started it.
 */
export function peakBytes() {
  const kibibytes = /^VmHWM:\s*(\d+) kB$/m.exec(statusOfProcess())?.[1];
  return (kibibytes === undefined ? process.resourceUsage().maxRSS : Number(kibibytes)) * 1024;
}

function statusOfProcess() {
  try {
    return readFileSync('/proc/self/status', 'latin1');
  } catch {
    return '';
  }
}
