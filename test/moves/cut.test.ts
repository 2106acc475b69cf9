/**
 * Moves that end at every call of the provider, or with the power at any time: there is always a name under which the
 * image opens rightly, its relatives read what they read, and what was asked for can be asked for again.
 */
import { describe, expect, it } from 'vitest';
import { isImageError, moveImage } from '../../src/index.ts';
import type { StorageProvider } from '../../src/storage/contract.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { crashStates, type FaultPoint, FaultProvider, RecordingProvider } from '../../src/testing/index.ts';
import { rounds } from '../conformance/random.ts';
import {
  type Family,
  KINDS,
  type Kind,
  makeFamily,
  ROLES,
  type Role,
  registry,
  type State,
  stateOf,
  TOY_KINDS,
} from './kit.ts';

const POINTS: readonly FaultPoint[] = ['names', 'write', 'flush', 'read'];
const TO = '/b/new.img';

/** One in this many calls ends in the usual run; each case begins at another. Names are few, and each one counts. */
const EVERY: Readonly<Record<string, number>> = {
  names: 1,
  write: rounds(11, 1),
  flush: rounds(11, 1),
  read: rounds(197, 1),
};

/** Without hard links, as on a FAT file system. */
class Linkless extends MemoryProvider {
  override link = undefined as never;
}

async function familyIn(provider: MemoryProvider, kind: Kind, role: Role): Promise<Family> {
  // A directory is there by what it has in it.
  for (const name of ['/a/something', '/b/something']) await (await provider.create(name)).close();
  return makeFamily(provider, '/a', kind, role);
}

const optionsFor = ({ kind, dataName }: Family) => ({
  registry,
  format: kind.format.name,
  force: true,
  allow: ['/a', '/b', ...(dataName === null ? [] : [dataName])],
});

/** Null: it does not open, and says so. */
async function found(family: Family, provider: StorageProvider, name: string): Promise<State | null> {
  try {
    return await stateOf(family, { provider, name }, ['/a', '/b']);
  } catch (error) {
    if (isImageError(error) && (error.kind === 'not-found' || error.kind === 'invalid-format')) return null;
    throw error;
  }
}

/** Nothing reads anything else than before, and the image that moves is there under one name at least. */
async function expectKept(family: Family, places: readonly StorageProvider[], moved: number): Promise<void> {
  for (const [number, name] of family.names.entries()) {
    const names = number === moved ? [name, TO] : [name];
    const states: State[] = [];
    for (const provider of places) {
      for (const one of names) {
        const state = await found(family, provider, one);
        if (state !== null) states.push(state);
      }
    }
    for (const state of states) expect(state).toEqual(family.states[number]);
    // What is found by its UUID is found beside it only.
    if (!family.byUuid) expect(states.length, name).toBeGreaterThan(0);
  }
}

const cases = [...KINDS, ...TOY_KINDS]
  .flatMap((kind) =>
    ROLES.filter(({ images }) => images === 1 || kind.format.capabilities.diff).flatMap((role) =>
      (['one provider', 'two providers'] as const)
        .filter((where) => where === 'one provider' || role.images === 1)
        .map((where) => ({ title: kind.title, kind, ...role, where })),
    ),
  )
  .map((one, number) => ({ ...one, number }));

describe.each(cases)('$title, $role, $where', ({ kind, where, number, ...role }) => {
  it.each(POINTS)('ends at any %s, and goes on when it is asked for again', async (point) => {
    // There are hundreds of reads, most of them of the same tables.
    const every = EVERY[point] ?? 1;
    for (let at = point === 'read' ? 0 : number % every, fired = true; fired; at += every) {
      const [inner, elsewhere] = [new MemoryProvider(), new MemoryProvider()];
      await (await elsewhere.create('/b/something')).close();
      const family = await familyIn(inner, kind, role);
      const [faults, others] = [new FaultProvider(inner), new FaultProvider(elsewhere)];
      const plan = { fail: { [point]: at }, forGood: POINTS };
      faults.plan(plan);
      others.plan(where === 'two providers' ? plan : {});
      const [from = '', target] = [family.names[role.moved], where === 'two providers' ? others : faults];
      const options = optionsFor(family);
      const move = (): Promise<unknown> =>
        moveImage({ provider: faults, name: from }, { provider: target, name: TO }, options);
      const error = await move().then(
        () => null,
        (failure: unknown) => failure,
      );
      fired = faults.fired || others.fired;
      if (error !== null && !fired) throw error;
      await expectKept(family, [inner, elsewhere], role.moved);
      for (const one of [faults, others]) one.plan({});
      if ((await inner.lookUp(from)) !== null) await move();
      expect(await inner.lookUp(from)).toBeNull();
      expect(await (where === 'two providers' ? elsewhere : inner).lookUp(TO)).not.toBeNull();
      await expectKept(family, [inner, elsewhere], role.moved);
    }
  });
});

const named = KINDS.filter(({ format, data }) => format.capabilities.diff && !format.capabilities.uuid && !data);
describe.each(named)('the power goes while a $title moves', (kind) => {
  it.each(ROLES)('$role: the content stays the same', async (role) => {
    const inner = new Linkless();
    const family = await familyIn(inner, kind, role);
    const recorder = new RecordingProvider(inner);
    const name = family.names[role.moved] ?? '';
    await moveImage({ provider: recorder, name }, { provider: recorder, name: TO }, optionsFor(family));
    let states = 0;
    for (const state of crashStates(recorder.log, inner, { isMetadata: () => true, maxStates: rounds(25, 200) })) {
      states++;
      const own = [await found(family, state.provider, name), await found(family, state.provider, TO)];
      expect(own.filter((one) => one !== null).length, state.describe()).toBeGreaterThan(0);
      for (const one of own) if (one !== null) expect(one, state.describe()).toEqual(family.states[role.moved]);
      for (const [number, relative] of family.names.entries()) {
        const one = number === role.moved ? null : await found(family, state.provider, relative);
        if (one !== null) expect(one, state.describe()).toEqual(family.states[number]);
      }
    }
    expect(states).toBeGreaterThan(2);
  });
});
