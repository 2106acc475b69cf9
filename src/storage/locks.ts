/**
 * Compatibility of locks: QEMU's scheme, in which a handle declares the permissions that it uses and those that it
 * denies to others. Each side checks both lists of the other. Storages publish the lists: in memory, or as locks on
 * single bytes of the file.
 */
import { type ErrorDetails, ImageError } from '../errors.ts';
import type { LockHolder, LockMode, LockOptions, LockState } from './contract.ts';

/** Permissions; the number is QEMU's bit. */
export const PERMISSION = { read: 0, write: 1, rewriteSame: 2, resize: 3 } as const;
export type Permission = (typeof PERMISSION)[keyof typeof PERMISSION];

/** Permissions that a handle uses, and those that it denies to others. */
export interface LockClaim {
  readonly uses: readonly Permission[];
  readonly refuses: readonly Permission[];
}

const CHANGES: readonly Permission[] = [PERMISSION.write, PERMISSION.resize];
const NOTHING: LockClaim = { uses: [], refuses: [] };

/** Claims made by a lock. */
export function claimOf(mode: LockMode, how: LockOptions = {}): LockClaim {
  return {
    uses: mode === 'exclusive' ? [PERMISSION.read, ...CHANGES] : [PERMISSION.read],
    refuses: how.shareable === true ? [] : CHANGES,
  };
}

/** Conflict between two claims, seen from one of them. */
export interface LockConflict {
  /**
   * `used`: the other uses a permission that I deny. `refused`: the other denies one that I use.
   */
  readonly kind: 'used' | 'refused';
  readonly permission: Permission;
}

/** The first conflict of `mine` with what the others claim; null when there is none. */
export function findConflict(mine: LockClaim, others: LockClaim): LockConflict | null {
  const used = mine.refuses.find((permission) => others.uses.includes(permission));
  if (used !== undefined) return { kind: 'used', permission: used };
  const refused = mine.uses.find((permission) => others.refuses.includes(permission));
  return refused === undefined ? null : { kind: 'refused', permission: refused };
}

/** The union of claims. */
export function joinClaims(claims: Iterable<LockClaim>): LockClaim {
  const all = [...claims];
  return { uses: all.flatMap(({ uses }) => uses), refuses: all.flatMap(({ refuses }) => refuses) };
}

/** The lock state described by claims; any reader makes it different from none. */
export function stateOf(claim: LockClaim, holders: readonly LockHolder[] = []): LockState {
  if (CHANGES.some((permission) => claim.uses.includes(permission))) return { held: 'exclusive', holders };
  return { held: claim.uses.length + claim.refuses.length > 0 ? 'shared' : 'none', holders };
}

/** Locks of storages private to this process: one table for all handles of the same bytes. */
export class LockTable {
  readonly #claims = new Map<object, LockClaim>();

  /** Takes or changes the lock of one handle. Returns the conflict, if any; then nothing has changed. */
  take(owner: object, mode: LockMode, how?: LockOptions): LockConflict | null {
    const claim = claimOf(mode, how);
    const others = [...this.#claims].flatMap(([other, taken]) => (other === owner ? [] : [taken]));
    const conflict = findConflict(claim, joinClaims(others));
    if (conflict === null) this.#claims.set(owner, claim);
    return conflict;
  }

  release(owner: object): void {
    this.#claims.delete(owner);
  }

  get claim(): LockClaim {
    return this.#claims.size === 0 ? NOTHING : joinClaims(this.#claims.values());
  }

  get isEmpty(): boolean {
    return this.#claims.size === 0;
  }
}

/** Description of a conflicting lock. */
export interface Obstacle {
  readonly path: string;
  readonly conflict: LockConflict;
  readonly mode: LockMode;
  /** The other program, as the beginning of a sentence. */
  readonly who: string;
  /** The lock, for people who look for it. */
  readonly lock?: string;
  readonly hint: string;
}

/** The error of `lock`. */
export function lockedError(obstacle: Obstacle): ImageError {
  const { path, conflict, mode, who, lock, hint } = obstacle;
  const details: ErrorDetails = lock === undefined ? {} : { field: 'lock', found: lock };
  const instead =
    mode === 'shared' ? ' To read anyway, with possibly inconsistent data: forceShare (--force-share).' : '';
  return new ImageError('locked', `${who} ${reasonOf(conflict)}`, { path, ...details, hint: `${hint}${instead}` });
}

/** The error of `lock` for storages in this process's memory. */
export function lockedHere(path: string, conflict: LockConflict, mode: LockMode): ImageError {
  const hint = 'Close the other disk object first.';
  return lockedError({ path, conflict, mode, who: 'This process', hint });
}

function reasonOf({ kind, permission }: LockConflict): string {
  if (kind === 'used')
    return permission === PERMISSION.read ? 'has this image open' : 'has this image open for writing';
  if (permission === PERMISSION.read) return 'has this image locked against readers';
  return 'has this image open and locked against writers';
}

/** `permission "write" is in use`. */
export function describeConflict({ kind, permission }: LockConflict): string {
  const name = Object.entries(PERMISSION).find(([, value]) => value === permission)?.[0] ?? String(permission);
  return `permission "${name}" ${kind === 'used' ? 'is in use' : 'is not shared'}`;
}
