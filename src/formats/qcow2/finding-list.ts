/** What a check collects: bounded, since a broken image has millions of things to say. */
import type { Finding, Severity } from '../../image/findings.ts';

/** Findings of one kind are listed one by one up to this many, then counted. */
const LISTED = 1000;

/** What to say of one place; made only when it is listed. */
export type Say = () => string;
/** Where it is, and whether it can be repaired (default: yes). */
export type Where = Partial<Pick<Finding, 'fileOffset' | 'guestOffset' | 'repairable'>>;

/** See the head of this file. */
export class FindingList {
  readonly #findings: Finding[] = [];
  readonly #counts = new Map<string, number>();

  add(severity: Severity, code: string, say: Say, where: Where = {}): void {
    const count = (this.#counts.get(code) ?? 0) + 1;
    this.#counts.set(code, count);
    if (count > LISTED) return;
    const { fileOffset = null, guestOffset = null, repairable = true } = where;
    this.#findings.push({ severity, code, message: say(), fileOffset, guestOffset, repairable });
  }

  /** Some of this kind are there. */
  has(code: string): boolean {
    return this.#counts.has(code);
  }

  /** All of them; `repairable` may take back what was said of a kind. */
  finish(repairable: (finding: Finding) => boolean): Finding[] {
    const findings = this.#findings.slice();
    for (const [code, count] of this.#counts) {
      const first = findings.find((finding) => finding.code === code);
      if (count <= LISTED || first === undefined) continue;
      const message = `${count - LISTED} more of the kind ${code} are not listed.`;
      findings.push({ ...first, message, fileOffset: null, guestOffset: null });
    }
    return findings.map((finding) => ({ ...finding, repairable: finding.repairable && repairable(finding) }));
  }
}
