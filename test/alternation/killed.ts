/**
 * After a kill: the files must be as before the command or as after it, or between the two where the command says so. Then
 * vdkit opens the images for writing, the command runs again as it was typed, and from then on nothing worse than lost
 * room may be found.
 */
import { Mismatch } from '../model/mismatch.ts';
import { formatOf } from './kits.ts';
import { lookAt } from './look-at.ts';
import { type Command, type Plan, type Step, typed } from './plan.ts';
import { type Answer, listFiles, type Workshop } from './programs.ts';
import { allowOf, familyOf, type Img, put, type World } from './world.ts';

/** State from which a walk continues. */
export interface Recovered {
  readonly world: World;
  /** Commands run after the kill. */
  readonly commands: readonly Command[];
}

/** See the head of this file. */
export async function recover(
  workshop: Workshop,
  step: Step,
  plan: Plan,
  before: World,
  answer: Answer,
): Promise<Recovered> {
  const commands: Command[] = [];
  const run = async (command: Command): Promise<void> => {
    commands.push(command);
    const { status, errors, output } = await workshop.run(command);
    if (status !== 0) throw new Mismatch(`after a kill ${typed(command)} ends with ${status}: ${errors}${output}`);
  };
  const cut = typeof plan.cut === 'function' ? plan.cut(answer.output) : (plan.cut ?? []);
  const names = affected(plan, before);
  if (plan.command.program.startsWith('qemu')) await repairAfterQemu(before, names, run);
  const found = await recogniseState(workshop, [plan.after, ...cut, before], names, before);
  let { world } = found;
  for (const name of names) {
    const image = world.get(name);
    if (image === undefined || image.ruined === true) continue;
    // Even where nothing is left to do, this mends what may be mended.
    await run(openForWriting(world, image));
    world = await withoutInconsistent(world, image, run);
  }
  const again = plan.resumes === true ? (found.done ? null : plan) : step(world);
  if (again !== null) {
    await run(again.command);
    world = leaky(again.after, names);
  }
  await workshop.removeUnknown(world);
  return { world: await lookAtAll(workshop, world, [...names, ...(again?.touched ?? [])], false), commands };
}

/** All images that the command may change, under their names before and after it. */
function affected({ after, touched }: Plan, before: World): string[] {
  const names = [...before.keys(), ...after.keys()].filter((name) => before.get(name) !== after.get(name));
  return [...new Set([...names, ...touched])];
}

function leaky(world: World, names: readonly string[]): World {
  const images = names.flatMap((name) => world.get(name) ?? []);
  return put(world, ...images.map((image) => ({ ...image, leaky: true })));
}

/** The first of the states that the files are in. */
async function recogniseState(
  workshop: Workshop,
  states: readonly World[],
  names: readonly string[],
  before: World,
): Promise<{ readonly world: World; readonly done: boolean }> {
  const wrong: string[] = [];
  const present = await listFiles();
  for (const state of states) {
    try {
      const missing = [...state.keys()].filter((name) => !present.has(name));
      const surplus = names.filter((name) => present.has(name) && !state.has(name));
      if (missing.length + surplus.length > 0) throw new Mismatch(`there is no ${missing}, or still ${surplus}`);
      return { world: await lookAtAll(workshop, leaky(state, names), names, true), done: state === states[0] };
    } catch (error) {
      if (!(error instanceof Mismatch)) throw error;
      wrong.push(`${state === before ? 'before it' : state === states[0] ? 'after it' : 'between'}: ${error.message}`);
    }
  }
  throw new Mismatch(`after a kill the files are in none of the states that may be:\n${wrong.join('\n')}`);
}

async function lookAtAll(workshop: Workshop, world: World, names: readonly string[], cut: boolean): Promise<World> {
  let seen = world;
  for (const name of new Set(names.flatMap((one) => familyOf(world, one)))) {
    const image = seen.get(name);
    if (image === undefined || image.ruined === true) continue;
    const found = await lookAt(seen, image, workshop.folder, { snapshots: true, cut });
    seen = put(seen, found);
  }
  return seen;
}

/** Bitmaps that were recording are lost: they can only be removed. */
async function withoutInconsistent(world: World, image: Img, run: (command: Command) => Promise<void>): Promise<World> {
  const [lost, kept] = [true, false].map((is) =>
    image.bitmaps.filter(({ inconsistent = false }) => inconsistent === is),
  );
  for (const { name } of lost ?? []) {
    await run({ program: 'vdkit', words: ['bitmap', 'remove', image.name, name, ...allowOf(world, image.name)] });
  }
  return put(world, { ...image, bitmaps: kept ?? [] });
}

/** A session without a change. */
function openForWriting(world: World, { name, format }: Img): Command {
  const allow = allowOf(world, name).filter((word) => word !== '--allow');
  return { program: 'library', words: [], session: { image: name, format, allow, operations: [] } };
}

/** QEMU promises less than vdkit: what it leaves is repaired first, and must then be as it was or as it should be. */
async function repairAfterQemu(
  before: World,
  names: readonly string[],
  run: (command: Command) => Promise<void>,
): Promise<void> {
  for (const name of names) {
    const image = before.get(name);
    if (image === undefined || formatOf(image).format.check === undefined) continue;
    await run({ program: 'vdkit', words: ['check', name, '--repair', ...allowOf(before, name)] });
  }
}
