/**
 * The processes of a test run, and their end. Browsers and servers lead separate process groups, and a process whose
 * parent has ended belongs to no tree, so a run is also recognised by a variable that its processes inherit.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** Set to a value that is unique to a run in everything that it starts. */
export const RUN_VARIABLE = 'VDKIT_TEST_RUN';

const ROUNDS = 40;
const ROUND_MS = 50;

/**
 * Ends the processes of a run, and those that they start while that happens.
 * @param {string} run Value of the variable.
 * @param {number | undefined} leader The process that the run was started with; everything below it belongs to the run.
 */
export async function endRun(run, leader) {
  for (let round = 0; round < ROUNDS; round++) {
    const found = processesOf(run, leader);
    if (found.length === 0) return;
    for (const pid of found) endProcess(pid);
    await sleep(ROUND_MS);
  }
}

/** @param {number} pid */
export function endProcess(pid) {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

/**
 * @param {string} run
 * @param {number | undefined} leader
 * @returns {number[]} Without the process that asks.
 */
export function processesOf(run, leader) {
  const all = runningProcesses();
  const found = new Set(all.filter(({ pid }) => hasVariable(pid, run)).map(({ pid }) => pid));
  if (leader !== undefined) found.add(leader);
  for (let size = -1; size !== found.size; ) {
    size = found.size;
    for (const { pid, parent } of all) if (found.has(parent)) found.add(pid);
  }
  const alive = new Set(all.map(({ pid }) => pid));
  return [...found].filter((pid) => pid !== process.pid && alive.has(pid));
}

/** Processes that have ended and wait for their parent are left out. */
export function runningProcesses() {
  if (process.platform !== 'linux') return listByCommand();
  return readdirSync('/proc').flatMap((name) => {
    // "pid (name) state parent …"; the name may hold anything.
    const fields = /^\d+$/.test(name)
      ? textOf(`/proc/${name}/stat`)
          .replace(/^.*\) /s, '')
          .split(' ')
      : [];
    const [state, parent] = fields;
    return parent === undefined || state === 'Z' ? [] : [{ pid: Number(name), parent: Number(parent) }];
  });
}

function listByCommand() {
  const { stdout } = spawnSync('ps', ['-A', '-o', 'pid=,ppid=,stat='], { encoding: 'utf8' });
  return (stdout ?? '').split('\n').flatMap((line) => {
    const [pid, parent, state = ''] = line.trim().split(/\s+/);
    return parent === undefined || state.startsWith('Z') ? [] : [{ pid: Number(pid), parent: Number(parent) }];
  });
}

/** Only Linux shows the environment of a process; elsewhere the tree must do. */
function hasVariable(pid, run) {
  return `\0${textOf(`/proc/${pid}/environ`)}`.includes(`\0${RUN_VARIABLE}=${run}\0`);
}

function textOf(path) {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
