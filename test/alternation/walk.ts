/** A walk: steps that a seed decides, one after another, with a look at the files after each. */
import { Random } from '../../src/testing/random.ts';
import type { Program } from '../cli/program.ts';
import { Mismatch } from '../model/mismatch.ts';
import { shrinkList } from '../model/shrink.ts';
import { mergeKinds, rebaseKinds } from './chain-steps.ts';
import { changeKinds } from './change.ts';
import { convertKinds, moveKinds } from './copies.ts';
import { bitmapKinds, snapshotKinds } from './inside.ts';
import { recover } from './killed.ts';
import { longChainKinds } from './long-chains.ts';
import { lookKinds } from './look.ts';
import { lookAt } from './look-at.ts';
import { createKinds, fileKinds } from './make.ts';
import { type Kind, type Plan, type Step, typed } from './plan.ts';
import { type Answer, KILLED, type Kill, unknownFiles, Workshop } from './programs.ts';
import { shapeKinds } from './shape.ts';
import { familyOf, put, type World } from './world.ts';

export const KINDS: readonly Kind[] = [
  ...createKinds,
  ...fileKinds,
  ...changeKinds,
  ...snapshotKinds,
  ...bitmapKinds,
  ...shapeKinds,
  ...rebaseKinds,
  ...mergeKinds,
  ...longChainKinds,
  ...convertKinds,
  ...moveKinds,
  ...lookKinds,
];

/** Steps between two examinations of all images with all their snapshots. */
const LOOK_AT_ALL = 12;
/** Impossible proposals are skipped; this many in a row mean that the world is stuck. */
const PROPOSALS = 1000;
const SHRINK_TRIES = process.env['KEEP'] ? 0 : 150;
const SHRINK_MS = 60_000;

/** A step that was taken, by the name of its kind. */
export interface Taken {
  readonly kind: string;
  readonly step: Step;
  /** Point at which its process is killed, if it gets that far. */
  readonly kill: Kill | null;
}

/** Options for a walk. */
export interface WalkOptions {
  readonly program: Program;
  readonly tally: Tally;
  /** Share of the steps whose process is killed, where a kill is followed up. */
  readonly kills: number;
}

/** A failure, with the commands up to it. */
export interface Failure {
  readonly message: string;
  readonly commands: readonly string[];
}

/** Outcome of a run of steps. */
interface Run {
  readonly taken: readonly Taken[];
  readonly failure: Failure | null;
}

/** Counts what was done, by kind. */
export type Tally = Map<string, number>;

/** Takes the given number of steps. A failure includes the shortest list of commands found. */
export async function walk(seed: number, steps: number, how: WalkOptions): Promise<string | null> {
  const random = new Random(seed);
  const { taken, failure } = await run(steps, (world) => propose(world, random, how.kills), how);
  if (failure === null) return null;
  let shortest = failure;
  const deadline = Date.now() + SHRINK_MS;
  const short = await shrinkList(taken, {
    tries: SHRINK_TRIES,
    simpler: () => [],
    async fails(list) {
      if (Date.now() > deadline) return false;
      const again = [...list];
      const found = (await run(list.length, () => again.shift() ?? null, { ...how, tally: new Map() })).failure;
      // Another fault would lead away from this one.
      if (found === null || !alike(found, failure)) return false;
      shortest = found;
      return true;
    },
  });
  return describe(seed, shortest, taken.length, short.length);
}

/** Names and numbers differ from run to run. */
function alike(a: Failure, b: Failure): boolean {
  const words = ({ message }: Failure): string => message.replace(/\S*\d\S*/g, '').slice(0, 60);
  return words(a) === words(b);
}

function describe(seed: number, { message, commands }: Failure, taken: number, short: number): string {
  return [
    `Seed ${seed}, step ${taken}: ${message}`,
    `Replay: VDKIT_MODEL_SEED=${seed} npx vitest run test/alternation`,
    `Shrunk to ${short} steps; in an empty folder:`,
    '',
    ...['mkdir sub; ln -s "$(mktemp -d -p /dev/shm)" other', ...commands].map((line) => `  ${line}`),
    '',
  ].join('\n');
}

function propose(world: World, random: Random, kills: number): Taken | null {
  const total = KINDS.reduce((sum, { weight }) => sum + weight, 0);
  for (let attempt = 0; attempt < PROPOSALS; attempt++) {
    const kind = weighted(random.below(total));
    const step = kind?.propose(world, random) ?? null;
    const plan = step?.(world) ?? null;
    if (kind === undefined || step === null || plan === null) continue;
    return { kind: kind.name, step, kill: plan.cut !== undefined && random.chance(kills) ? randomKill(random) : null };
  }
  throw new Error(`Nothing can be done with ${[...world.keys()].join(', ')}`);
}

/** Calls that change files: most of them are writes. */
const CALLS = [
  'pwrite64',
  'pwrite64',
  'pwrite64',
  'pwritev',
  'fdatasync',
  'fsync',
  'ftruncate',
  'renameat2',
  'unlink',
] as const;

function randomKill(random: Random): Kill {
  return { call: random.pick(CALLS), number: 1 + random.below(random.pick([2, 4, 12])) };
}

/** The kind that a number below the sum of all weights stands for. */
function weighted(number: number): Kind | undefined {
  let rest = number;
  for (const kind of KINDS) {
    if (rest < kind.weight) return kind;
    rest -= kind.weight;
  }
  return undefined;
}

async function run(steps: number, next: (world: World) => Taken | null, how: WalkOptions): Promise<Run> {
  await using workshop = await Workshop.make(how.program);
  const taken: Taken[] = [];
  const commands: string[] = [];
  let world: World = new Map();
  try {
    for (let count = 1; count <= steps; count++) {
      const chosen = next(world);
      if (chosen === null) break;
      taken.push(chosen);
      const plan = chosen.step(world);
      if (plan === null) continue;
      const all = count % LOOK_AT_ALL === 0 || count === steps;
      world = await take(workshop, chosen, plan, world, { commands, all, tally: how.tally });
    }
    return { taken, failure: null };
  } catch (error) {
    if (error instanceof Mismatch) return { taken, failure: { message: error.message, commands } };
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { taken, failure: { message: `it throws ${message}`, commands } };
  }
}

/** Record of a step. */
interface Notes {
  readonly commands: string[];
  readonly tally: Tally;
  /** Everything is looked at, not only what was touched. */
  readonly all: boolean;
}

/** Runs one command, killed or not, and looks at what there is then. */
async function take(
  workshop: Workshop,
  { kind, step, kill }: Taken,
  plan: Plan,
  world: World,
  notes: Notes,
): Promise<World> {
  const { commands, all } = notes;
  const note = (what: string): void => {
    notes.tally.set(what, (notes.tally.get(what) ?? 0) + 1);
  };
  const line = typed(plan.command);
  commands.push(line);
  if (kill !== null && plan.cut !== undefined) {
    const answer = await workshop.runKilled(plan.command, kill);
    if (answer.status === KILLED) {
      commands[commands.length - 1] = `${line}  # killed on its way into ${kill.call} number ${kill.number}`;
      note('killed');
      note(`${kind}: killed`);
      const recovered = await recover(workshop, step, plan, world, answer);
      commands.push(...recovered.commands.map(typed));
      return recovered.world;
    }
    // It had ended before.
    return look(workshop, judge(plan, answer) ? plan.after : (plan.refused ?? world), plan.touched, all);
  }
  const done = judge(plan, await workshop.run(plan.command));
  note(done ? kind : `${kind}: refused`);
  return look(workshop, done ? plan.after : (plan.refused ?? world), plan.touched, all);
}

/** False: it was refused, as it may be. */
function judge({ command, status = 0, refusal, prints }: Plan, answer: Answer): boolean {
  const said = `${answer.errors}${answer.output}`;
  if (answer.status !== status) {
    if (refusal?.test(said) === true) return false;
    throw new Mismatch(`${typed(command)} ends with ${answer.status}, not ${status}: ${said}`);
  }
  const wrong = prints?.(answer.output) ?? null;
  if (wrong !== null) throw new Mismatch(`${typed(command)}: ${wrong}`);
  return true;
}

/** Examines the images touched and their readers; now and then everything. */
async function look(workshop: Workshop, world: World, touched: readonly string[], all: boolean): Promise<World> {
  const unknown = await unknownFiles(world);
  if (unknown.length > 0) throw new Mismatch(`the command left ${unknown.join(', ')} behind`);
  const names = all ? [...world.keys()] : touched.flatMap((name) => familyOf(world, name));
  let seen = world;
  for (const name of new Set(names)) {
    const image = seen.get(name);
    // Nothing is promised about those between the two ends of a commit.
    if (image !== undefined && image.ruined !== true)
      seen = put(seen, await lookAt(seen, image, workshop.folder, { snapshots: all, cut: false }));
  }
  return seen;
}
