/** Results of a consistency check. */
import { checkArguments, listOf, OBJECT } from '../arguments.ts';

/**
 * `corruption`: data is lost or wrong, or will be after the next write. `leak`: only space is lost.
 */
export type Severity = 'corruption' | 'leak' | 'warning';

/** One error found in an image. */
export interface Finding {
  readonly severity: Severity;
  /** Stable, for programs: `shared-block`. */
  readonly code: string;
  /** A sentence for people. After a repair it states the repair made. */
  readonly message: string;
  /** Position in the file; null if there is no single one. */
  readonly fileOffset: number | null;
  /** Position in the virtual disk; null if there is no single one. */
  readonly guestOffset: number | null;
  /** True when a repair can fix it. */
  readonly repairable: boolean;
}

/** Summary of a check: vd.h and qemu-img use such counts for the exit status. */
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
