/** What a check collects: bounded, since a broken image has millions of things to say. */
import { SECTOR } from '../../../binary/numbers.ts';
import type { Finding, Severity } from '../../../image/findings.ts';

/** Findings of one kind are listed one by one up to this many, then counted. */
const LISTED = 1000;
/** Sectors in which more of them lie; what lies elsewhere does not count as repairable. */
const REMEMBERED = 65_536;

/** What to say of one place; made only when it is listed. */
export type Say = () => string;
/** Where it is, and whether it can be repaired (default: yes). */
export type Where = Partial<Pick<Finding, 'fileOffset' | 'guestOffset' | 'repairable'>>;

/** Findings of one kind. */
interface Kind {
  count: number;
  /** Of those that are not listed and may be repaired. */
  readonly sectors: Set<number>;
  /** One that is not listed may be repaired, and has no place of its own. */
  placeless: boolean;
}

/** See the head of this file. */
export class FindingList {
  readonly #findings: Finding[] = [];
  readonly #kinds = new Map<string, Kind>();

  add(severity: Severity, code: string, say: Say, where: Where = {}): void {
    const kind = this.#kindOf(code);
    const { fileOffset = null, guestOffset = null, repairable = true } = where;
    if (++kind.count <= LISTED) {
      this.#findings.push({ severity, code, message: say(), fileOffset, guestOffset, repairable });
    } else if (repairable && fileOffset === null) {
      kind.placeless = true;
    } else if (repairable && fileOffset !== null && kind.sectors.size < REMEMBERED) {
      kind.sectors.add(Math.floor(fileOffset / SECTOR));
    }
  }

  /** Some of this kind are there. */
  has(code: string): boolean {
    return this.#kinds.has(code);
  }

  /** One of those that are listed is so. */
  some(wanted: (finding: Finding) => boolean): boolean {
    return this.#findings.some(wanted);
  }

  /** All of them; `repairable` may take back what was said of a kind. */
  finish(repairable: (finding: Finding) => boolean): Finding[] {
    const findings = this.#findings.slice();
    const judged = findings.map((finding) => ({ ...finding, repairable: finding.repairable && repairable(finding) }));
    for (const [code, kind] of this.#kinds) {
      const first = findings.find((finding) => finding.code === code);
      if (kind.count <= LISTED || first === undefined) continue;
      const message = `${kind.count - LISTED} more of the kind ${code} are not listed.`;
      const unplaced = { ...first, message, fileOffset: null, guestOffset: null };
      judged.push({ ...unplaced, repairable: someRepairable(kind, unplaced, repairable) });
    }
    return judged;
  }

  #kindOf(code: string): Kind {
    const known = this.#kinds.get(code);
    if (known !== undefined) return known;
    const made: Kind = { count: 0, sectors: new Set(), placeless: false };
    this.#kinds.set(code, made);
    return made;
  }
}

/** One at least of those that are not listed can be repaired. */
function someRepairable(kind: Kind, like: Finding, repairable: (finding: Finding) => boolean): boolean {
  if (kind.placeless && repairable(like)) return true;
  return [...kind.sectors].some((sector) => repairable({ ...like, fileOffset: sector * SECTOR }));
}
