/** Bounded collection of findings: a broken image may produce millions. */
import { SECTOR } from '../../../binary/numbers.ts';
import type { Finding, Severity } from '../../../image/findings.ts';

/** Findings of one kind listed individually; further ones are counted. */
const LISTED = 1000;
/** Limit of sectors remembered for counted findings; those elsewhere count as not repairable. */
const REMEMBERED = 65_536;

/** Message for one place; made only if it is listed. */
export type Say = () => string;
/** Place of a finding, and whether it can be repaired (default: yes). */
export type Where = Partial<Pick<Finding, 'fileOffset' | 'guestOffset' | 'repairable'>>;

/** Findings of one kind. */
interface Kind {
  count: number;
  /** Sectors of the unlisted findings that may be repaired. */
  readonly sectors: Set<number>;
  /** True when an unlisted finding without a place may be repaired. */
  placeless: boolean;
}

/** Findings of a check, bounded in number. */
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

  /** True when there are findings of this kind. */
  has(code: string): boolean {
    return this.#kinds.has(code);
  }

  /** True when one of the listed findings matches. */
  some(wanted: (finding: Finding) => boolean): boolean {
    return this.#findings.some(wanted);
  }

  /** All findings; `repairable` may withdraw the mark of a kind. */
  finish(repairable: (finding: Finding) => boolean): Finding[] {
    const findings = this.#findings.slice();
    const judged = findings.map((finding) => ({ ...finding, repairable: finding.repairable && repairable(finding) }));
    for (const [code, kind] of this.#kinds) {
      const first = findings.find((finding) => finding.code === code);
      if (kind.count <= LISTED || first === undefined) continue;
      const message = `${kind.count - LISTED} further findings ${code} are not listed.`;
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

/** True when at least one unlisted finding can be repaired. */
function someRepairable(kind: Kind, like: Finding, repairable: (finding: Finding) => boolean): boolean {
  if (kind.placeless && repairable(like)) return true;
  return [...kind.sectors].some((sector) => repairable({ ...like, fileOffset: sector * SECTOR }));
}
