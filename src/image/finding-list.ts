/** Findings of a check while it runs. */
import type { Finding } from './findings.ts';

/** Findings of one kind that are listed one by one. */
const LISTED = 1000;

/** Collects findings; those of one kind beyond the first thousand are counted. */
export class FindingList {
  readonly #found: Finding[] = [];
  readonly #counts = new Map<string, { count: number; readonly first: Finding }>();

  /** Adds a finding. `say` gives its message, and is called only if it is listed. */
  add(
    severity: Finding['severity'],
    code: string,
    say: string | (() => string),
    { fileOffset = null, guestOffset = null, repairable = true }: Partial<Finding> = {},
  ): void {
    const kind = this.#counts.get(code);
    if (kind !== undefined && kind.count >= LISTED) {
      kind.count++;
      return;
    }
    const message = typeof say === 'string' ? say : say();
    const finding: Finding = { severity, code, message, fileOffset, guestOffset, repairable };
    if (kind === undefined) this.#counts.set(code, { count: 1, first: finding });
    else kind.count++;
    this.#found.push(finding);
  }

  /** All findings, with a line for those that are not listed. */
  get list(): readonly Finding[] {
    const more = [...this.#counts.entries()].flatMap(([code, { count, first }]) => {
      const message = `${count - LISTED} further findings ${code} are not listed.`;
      return count <= LISTED ? [] : [{ ...first, message, fileOffset: null, guestOffset: null }];
    });
    return [...this.#found, ...more];
  }
}
