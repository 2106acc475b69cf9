/** What a consistency check reports. */
import { checkArguments, listOf, OBJECT } from '../arguments.ts';

/** `corruption`: content is lost or wrong, or will be after the next write. `leak`: only room is lost. */
export type Severity = 'corruption' | 'leak' | 'warning';

/** One thing that is wrong with an image. */
export interface Finding {
  readonly severity: Severity;
  /** Stable, for programs: `shared-block`. */
  readonly code: string;
  /** A sentence for people. After a repair it says what was done. */
  readonly message: string;
  /** Where in the file; null when it is no single place. */
  readonly fileOffset: number | null;
  /** Where in the virtual disk; null when it is no single place. */
  readonly guestOffset: number | null;
  /** A repair can set it right. */
  readonly repairable: boolean;
}

/** What a check came to: vd.h and qemu-img tell these apart by their exit status too. */
export interface CheckSummary {
  readonly corruptions: number;
  readonly leaks: number;
  readonly warnings: number;
}

/** Counts findings by severity. */
export function summarize(findings: readonly Finding[]): CheckSummary {
  checkArguments('summarize', { findings: [findings, listOf(OBJECT)] });
  const count = (severity: Severity): number => findings.filter((finding) => finding.severity === severity).length;
  return { corruptions: count('corruption'), leaks: count('leak'), warnings: count('warning') };
}
