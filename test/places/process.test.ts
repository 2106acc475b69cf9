/** Places that only a process has: its user, its limits, its outputs, its working directory, and bytes as words. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createImage } from '../../src/index.ts';
import { buildProgram, type Program } from '../cli/program.ts';
import { type Place, plain, works } from './mounts.ts';
import { expectRemedy, sampleBytes } from './tour.ts';

const NOBODY = 65_534;
const AS_NOBODY = `setpriv --reuid ${NOBODY} --regid ${NOBODY} --clear-groups`;
const MAY_CHANGE_USER = works('setpriv', '--reuid', String(NOBODY), '--clear-groups', 'true');
const SIZE = 1024 * 1024;

let program: Program;
let place: Place;
let folder: string;

beforeAll(async () => {
  program = await buildProgram();
  chmodSync(dirname(program.path), 0o755);
});
afterAll(() => program.remove());
beforeEach(() => {
  place = plain();
  folder = place.folder;
  chmodSync(folder, 0o755);
});
afterEach(() => place.remove());

interface Ended {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a line of the shell, in which `vdkit` is the program. */
function shell(line: string, cwd = folder, prefix = ''): Ended {
  const vdkit = `vdkit() { ${prefix} "$NODE" "$PROGRAM" "$@"; }`;
  const env = { ...process.env, NODE: process.execPath, PROGRAM: program.path };
  const { status, stdout, stderr } = spawnSync('/bin/sh', ['-c', `${vdkit}\n${line}`], {
    cwd,
    env,
    encoding: 'latin1',
  });
  expect(`${stdout}${stderr}`, line).not.toMatch(/bug in vdkit|vdkit-tmp|internal:/);
  return { status, stdout, stderr };
}

function succeed(line: string, prefix = ''): Ended {
  const ended = shell(line, folder, prefix);
  expect(ended.status, `${line}: ${ended.stderr}`).toBe(0);
  return ended;
}

function fail(line: string, about: RegExp, prefix = ''): void {
  const ended = shell(line, folder, prefix);
  expect(ended.status, line).not.toBe(0);
  expectRemedy(ended.stderr);
  expect(ended.stderr, line).toMatch(about);
}

/** True when another user can run the program where it lies. */
function nobodyMayRun(): boolean {
  return MAY_CHANGE_USER && shell('vdkit --version', '/', AS_NOBODY).status === 0;
}

describe.skipIf(!MAY_CHANGE_USER)(`another user${MAY_CHANGE_USER ? '' : ' (changing it is not allowed here)'}`, () => {
  beforeEach(async ({ skip }) => {
    if (!nobodyMayRun()) skip('another user cannot read the program here');
    await createImage(join(folder, 'base.qcow2'), { size: SIZE });
    await createImage(join(folder, 'child.qcow2'), { parent: join(folder, 'base.qcow2') });
    await createImage(join(folder, 'old.vdi'), { size: SIZE });
  });

  it('works in a folder that cannot be listed, and needs --force only where an unseen image may be lost', () => {
    for (const name of readdirSync(folder)) chmodSync(join(folder, name), 0o666);
    chmodSync(folder, 0o733);
    for (const words of [
      'info child.qcow2 --backing-chain',
      'map child.qcow2',
      'resize old.vdi 2M',
      'compact old.vdi',
      'snapshot create child.qcow2 one',
      'snapshot apply child.qcow2 one',
      'snapshot delete child.qcow2 one',
      'set old.vdi --uuid random',
      'convert child.qcow2 new.vdi',
      'create young.vdi --parent old.vdi',
      'rebase child.qcow2 --to none',
      'rename new.vdi other.vdi --force',
      'delete other.vdi --force',
    ]) {
      succeed(`vdkit ${words}`, AS_NOBODY);
    }
    for (const words of [
      'delete old.vdi',
      'rename old.vdi other.vdi',
      'map young.vdi',
      'merge young.vdi --parent old.vdi',
    ]) {
      fail(`vdkit ${words}`, /: .*(cannot be searched|not found beside it)/, AS_NOBODY);
    }
    expect(readdirSync(folder).sort()).toEqual(['base.qcow2', 'child.qcow2', 'old.vdi', 'young.vdi']);
  });

  it('is refused what belongs to somebody else, by the name as typed', () => {
    chmodSync(join(folder, 'base.qcow2'), 0o600);
    for (const words of ['info base.qcow2', 'check base.qcow2', 'convert base.qcow2 /tmp/none.vdi']) {
      fail(`vdkit ${words}`, /^error: base\.qcow2: /m, AS_NOBODY);
    }
    succeed('vdkit info old.vdi', AS_NOBODY);
    for (const words of ['resize old.vdi 2M', 'compact old.vdi', 'delete old.vdi']) {
      fail(`vdkit ${words}`, /^error: old\.vdi: /m, AS_NOBODY);
    }
    fail('vdkit create new.vdi 1M', /^error: new\.vdi: /m, AS_NOBODY);
    chownSync(folder, NOBODY, NOBODY);
    succeed('vdkit convert old.vdi new.qcow2', AS_NOBODY);
  });
});

describe('few descriptors', () => {
  it('64 are enough', () => {
    writeFileSync(join(folder, 'sample.raw'), sampleBytes());
    for (const line of [
      'vdkit convert sample.raw base.qcow2 --format raw --verify',
      'vdkit create child.qcow2 --parent base.qcow2',
      'vdkit compare child.qcow2 sample.raw --format-b raw',
      'vdkit merge child.qcow2',
      'vdkit check base.qcow2',
    ]) {
      succeed(`ulimit -n 64; ${line}`);
    }
  });

  it('too few are never reported as the lock of another program', async () => {
    await createImage(join(folder, 'disk.vdi'), { size: SIZE });
    const messages = [19, 20, 21, 24].map((count) => {
      const { status, stderr } = shell(`ulimit -n ${count}; VDKIT_NO_NATIVE=1 vdkit map disk.vdi`);
      return status === 0 ? '' : stderr;
    });
    expect(messages.join('')).not.toMatch(/has this image open|lock file/);
    expect(messages.at(-1)).toBe('');
  });
});

describe('outputs', () => {
  beforeEach(() => createImage(join(folder, 'disk.vdi'), { size: SIZE }));

  it.each(['>&-', '2>&-', '>/dev/full', '>/dev/full 2>/dev/full'])('%s', (redirection) => {
    for (const words of ['info disk.vdi', 'info disk.vdi --json', 'help', 'info missing.vdi']) {
      const { status, stderr } = shell(`vdkit ${words} ${redirection}`);
      // 127 and above: killed, or ended by the engine.
      expect(status, `${words}: ${stderr}`).toBeLessThan(127);
      expect(stderr).not.toMatch(/\n {4}at /);
    }
  });

  it.runIf(works('which', 'script'))('a terminal that can do nothing gets plain text', () => {
    const { stdout } = shell('TERM=dumb NO_COLOR= script -qec "$NODE $PROGRAM info missing.vdi" /dev/null');
    expect(stdout).toContain('error: missing.vdi');
    expect(stdout).not.toContain('\x1b[');
  });
});

it('a deleted working directory is named as what is wrong, and full paths work', async () => {
  await createImage(join(folder, 'disk.vdi'), { size: SIZE });
  mkdirSync(join(folder, 'gone'));
  const line = (words: string): string => `cd gone && rmdir ../gone && vdkit ${words}`;
  fail(line('info disk.vdi'), /^error: The working directory does not exist any more/m);
  mkdirSync(join(folder, 'gone'));
  succeed(line(`info "${join(folder, 'disk.vdi')}"`));
});

describe('words', () => {
  it.runIf(process.platform === 'linux')('of bytes that are not UTF-8 name the files of those bytes', () => {
    succeed(`n=$(printf '\\377.vdi'); vdkit create "$n" 1M && vdkit map "$n" && vdkit rename "$n" "$n.vdi"`);
    expect(readdirSync(folder, { encoding: 'latin1' })).toEqual(['\xff.vdi.vdi']);
    fail(`vdkit info "$(printf 'nothing\\377')"`, /^error: nothing\\xff: /m);
  });

  it('with leading dashes are names after --, or with ./', () => {
    succeed('vdkit create ./-a.vdi 1M && vdkit info -- -a.vdi && vdkit delete ./-a.vdi');
    expect(readdirSync(folder)).toEqual([]);
  });
});
