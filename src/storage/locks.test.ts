import { describe, expect, it } from 'vitest';
import {
  claimOf,
  describeConflict,
  findConflict,
  joinClaims,
  LockTable,
  lockedError,
  PERMISSION,
  stateOf,
} from './locks.ts';

const plain = { shared: claimOf('shared'), exclusive: claimOf('exclusive') };
const shareable = {
  shared: claimOf('shared', { shareable: true }),
  exclusive: claimOf('exclusive', { shareable: true }),
};

describe('claims', () => {
  it('exclude each other both ways or not at all', () => {
    const all = [plain.shared, plain.exclusive, shareable.shared, shareable.exclusive];
    for (const mine of all) {
      for (const theirs of all) {
        expect(findConflict(mine, theirs) === null).toBe(findConflict(theirs, mine) === null);
      }
    }
  });

  it.each([
    [plain.shared, plain.shared, null],
    [plain.shared, plain.exclusive, { kind: 'used', permission: PERMISSION.write }],
    [plain.exclusive, plain.shared, { kind: 'refused', permission: PERMISSION.write }],
    [plain.exclusive, shareable.exclusive, { kind: 'used', permission: PERMISSION.write }],
    [shareable.exclusive, plain.exclusive, { kind: 'refused', permission: PERMISSION.write }],
    [shareable.exclusive, shareable.exclusive, null],
    [shareable.exclusive, shareable.shared, null],
    [plain.shared, shareable.shared, null],
  ])('%j beside %j', (mine, theirs, conflict) => {
    expect(findConflict(mine, theirs)).toEqual(conflict);
  });

  it('of several are all heeded', () => {
    const others = joinClaims([plain.shared, shareable.exclusive]);
    expect(findConflict(plain.shared, others)).toEqual({ kind: 'used', permission: PERMISSION.write });
    expect(stateOf(others).held).toBe('exclusive');
    expect(stateOf(joinClaims([])).held).toBe('none');
  });
});

describe('a table of locks', () => {
  it('lets a handle change its own lock, and keeps it when that fails', () => {
    const table = new LockTable();
    const [one, other] = [{}, {}];
    expect(table.take(one, 'shared')).toBeNull();
    expect(table.take(other, 'shared')).toBeNull();
    expect(table.take(one, 'exclusive')).not.toBeNull();
    table.release(one);
    expect(table.take(one, 'exclusive')).not.toBeNull();
    expect(table.take(other, 'exclusive')).toBeNull();
    table.release(other);
    expect(table.isEmpty).toBe(true);
  });
});

describe('the message', () => {
  it('says what is locked, which lock it is and how to look', () => {
    const conflict = { kind: 'used', permission: PERMISSION.write } as const;
    const error = lockedError({
      path: 'disk.vdi',
      conflict,
      mode: 'shared',
      who: 'Another process',
      lock: `byte 101, ${describeConflict(conflict)}`,
      hint: 'Look.',
    });
    expect(error).toMatchObject({
      kind: 'locked',
      status: 'VERR_SHARING_VIOLATION',
      message: 'Another process has this image open for writing',
      context: { path: 'disk.vdi', field: 'lock', found: 'byte 101, permission "write" is in use' },
    });
    expect(error.hint).toBe('Look. To read anyway, with possibly inconsistent data: forceShare (--force-share).');
  });
});
