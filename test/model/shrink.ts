/** Makes a failing list short: parts are left out, then what is left is made simpler, as long as it still fails. */

/** Method and limits of shrinking. */
export interface ShrinkOptions<T> {
  /** True when this list still fails. */
  readonly fails: (items: readonly T[]) => Promise<boolean>;
  /** Lists that may take the place of one item. They never lead back to it. */
  readonly simpler: (item: T) => readonly (readonly T[])[];
  /** Lists tried at most. */
  readonly tries: number;
}

/** A list that fails and from which nothing more can be left out, unless the tries ran out. */
export async function shrinkList<T>(items: readonly T[], options: ShrinkOptions<T>): Promise<T[]> {
  let tries = options.tries;
  const fails = async (list: readonly T[]): Promise<boolean> => tries-- > 0 && (await options.fails(list));
  let current = [...items];
  for (let before = -1; tries > 0 && before !== tries; ) {
    current = await leaveOut(current, fails);
    const simpler = await simplify(current, options.simpler, fails);
    if (simpler === null) return current;
    current = simpler;
    before = -1;
  }
  return current;
}

/** Leaves out halves, quarters, … and at last single items (delta debugging). */
async function leaveOut<T>(items: T[], fails: (list: readonly T[]) => Promise<boolean>): Promise<T[]> {
  let current = items;
  for (let size = Math.ceil(current.length / 2); size >= 1; ) {
    let shorter = false;
    // From the end: the last operations are those that show the failure, and the rest is mostly noise.
    for (let start = current.length - size; start > -size; start -= size) {
      const rest = [...current.slice(0, Math.max(start, 0)), ...current.slice(start + size)];
      if (rest.length === current.length || !(await fails(rest))) continue;
      current = rest;
      shorter = true;
    }
    if (size > 1) size = Math.ceil(size / 2);
    else if (!shorter) return current;
  }
  return current;
}

/** The list with one item made simpler as often as that works; null when nothing could be. */
async function simplify<T>(
  items: readonly T[],
  simpler: ShrinkOptions<T>['simpler'],
  fails: (list: readonly T[]) => Promise<boolean>,
): Promise<T[] | null> {
  let current = [...items];
  let changed = false;
  for (let index = 0; index < current.length; ) {
    const next = await firstFailing(current, index, simpler, fails);
    if (next === null) index++;
    else [current, changed] = [next, true];
  }
  return changed ? current : null;
}

async function firstFailing<T>(
  items: readonly T[],
  index: number,
  simpler: ShrinkOptions<T>['simpler'],
  fails: (list: readonly T[]) => Promise<boolean>,
): Promise<T[] | null> {
  const item = items[index];
  if (item === undefined) return null;
  for (const list of simpler(item)) {
    const candidate = [...items.slice(0, index), ...list, ...items.slice(index + 1)];
    if (await fails(candidate)) return candidate;
  }
  return null;
}
