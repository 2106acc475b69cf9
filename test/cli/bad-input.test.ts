/** Bad input of every kind: one line and a hint, the right status, and nothing changed on the disk. */
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCli } from './run-cli.ts';

const SAMPLE = fileURLToPath(new URL('../../samples/disk.vdi', import.meta.url));

let folder: string;
/** `@name` in a command stands for a file in the folder. */
const place = (word: string): string => (word === 'SAMPLE' ? SAMPLE : word.replace(/^@/, `${folder}/`));

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-bad-'));
  const sample = readFileSync(SAMPLE);
  writeFileSync(join(folder, 'headless.vdi'), sample.subarray(0, 300));
  writeFileSync(join(folder, 'truncated.vdi'), sample.subarray(0, sample.length - 700_000));
  writeFileSync(join(folder, 'existing.raw'), 'precious');
  writeFileSync(join(folder, 'own.vdi'), sample);
  writeFileSync(join(folder, 'disk.raw'), new Uint8Array(4096));
  await runCli(['create', join(folder, 'base.vdi'), '8M']);
  await runCli(['create', join(folder, 'diff.vdi'), '--parent', join(folder, 'base.vdi')]);
  writeFileSync(join(folder, 'empty.vdi'), '');
  mkdirSync(join(folder, 'directory'));
  execFileSync('mkfifo', [join(folder, 'fifo')]);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Names, sizes and times of everything in the folder. */
function state(): string[] {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .sort()
    .map((name) => {
      const { size, mtimeMs, mode } = statSync(join(folder, name));
      return `${name} ${size} ${mtimeMs} ${mode}`;
    });
}

const FAILURES: readonly (readonly [string, string, number, string])[] = [
  ['a missing file', 'info @missing.vdi', 1, 'not-found'],
  ['a missing source', 'convert @missing.vdi @out.raw', 1, 'not-found'],
  ['a directory', 'info @directory', 1, 'unsupported'],
  ['a directory as source', 'convert @directory @out.raw', 1, 'unsupported'],
  ['a directory as target', 'convert SAMPLE @directory --to raw', 1, 'unsupported'],
  ['a FIFO', 'info @fifo', 1, 'unsupported'],
  ['a FIFO as source', 'convert @fifo @out.raw', 1, 'unsupported'],
  ['a FIFO as target', 'convert SAMPLE @fifo --to raw', 1, 'unsupported'],
  ['an empty file', 'info @empty.vdi', 1, 'invalid-format'],
  ['an image cut off in its header', 'info @headless.vdi', 1, 'invalid-format'],
  ['an image cut off in its data', 'convert @truncated.vdi @out.raw', 1, 'corrupt'],
  ['an image that is none', 'info --format vdi @existing.raw', 1, 'invalid-format'],
  ['an existing target', 'convert SAMPLE @existing.raw', 1, 'exists'],
  ['an existing target of create', 'create @existing.raw 1M', 1, 'exists'],
  ['a missing target directory', 'convert SAMPLE @nowhere/out.raw', 1, 'not-found'],
  ['a missing target directory of create', 'create @nowhere/out.vdi 1M', 1, 'not-found'],
  ['a format that cannot be made', 'convert SAMPLE @out.cloop', 1, 'unsupported'],
  ['compression that the format has not', 'convert SAMPLE @out.vdi --compress', 1, 'unsupported'],
  ['a target that is too small', 'convert SAMPLE @out.raw --size 1M', 1, 'invalid-argument'],
  ['raw that was not named for writing', 'convert SAMPLE @existing.raw --into', 1, 'denied'],
  ['preallocated metadata', 'create @out.vdi 1M --preallocation metadata', 1, 'unsupported'],
  ['a block size for raw', 'create @out.raw 1M --block-size 1M', 1, 'unsupported'],
  ['an impossible block size', 'create @out.vdi 1M --block-size 3', 1, 'invalid-argument'],
  ['a missing parent', 'create @out.vdi --parent @missing.vdi', 1, 'not-found'],
  ['a map behind the end', 'map SAMPLE --start 1G', 1, 'out-of-bounds'],
  ['trouble in compare', 'compare SAMPLE @truncated.vdi', 2, 'corrupt'],
  ['a missing file in compare', 'compare SAMPLE @missing.vdi', 2, 'not-found'],
  ['an unknown extension', 'convert SAMPLE @out.xyz', 64, 'invalid-argument'],
  ['no extension', 'create @out 1M', 64, 'invalid-argument'],
  ['an unknown source format', 'convert SAMPLE @out.raw --format vdy', 64, 'invalid-argument'],
  ['an unknown target format', 'convert SAMPLE @out.raw --to vdy', 64, 'invalid-argument'],
  ['an unknown format of info', 'info SAMPLE --format vdy', 64, 'invalid-argument'],
  ['an unknown variant', 'create @out.vdi 1M --variant fxed', 64, 'invalid-argument'],
  ['an unknown key', 'create @out.vdi 1M --option nope=1', 64, 'invalid-argument'],
  ['a key without a value', 'create @out.vdi 1M --option AllocationBlockSize', 64, 'invalid-argument'],
  ['a bad UUID', 'create @out.vdi 1M --uuid 123', 64, 'invalid-argument'],
  ['no size', 'create @out.vdi', 64, 'invalid-argument'],
  ['a bad size', 'create @out.vdi 10X', 64, 'invalid-argument'],
  ['a fraction of a byte', 'create @out.vdi 1.3K', 64, 'invalid-argument'],
  ['a negative size', 'convert SAMPLE @out.raw --size -5', 64, 'invalid-argument'],
  ['a bad rate', 'convert SAMPLE @out.raw --rate-limit fast', 64, 'invalid-argument'],
  ['a bad number of threads', 'convert SAMPLE @out.raw --threads 0', 64, 'invalid-argument'],
  [
    'compression of another kind',
    'convert SAMPLE @out.qcow2 --compress=zlib --option compression_type=zstd',
    1,
    'invalid-argument',
  ],
  ['an unknown compression', 'convert SAMPLE @out.raw --compress=lzma', 64, 'invalid-argument'],
  ['an unknown way of progress', 'convert SAMPLE @out.raw --progress dots', 64, 'invalid-argument'],
  ['a command that does not exist', 'transmogrify SAMPLE', 64, 'invalid-argument'],
  ['an option that does not exist', 'info SAMPLE --verbose-mode', 64, 'invalid-argument'],
  ['too few arguments', 'convert SAMPLE', 64, 'invalid-argument'],
  ['too many arguments', 'info SAMPLE SAMPLE', 64, 'invalid-argument'],
  ['an option without its value', 'info SAMPLE --format', 64, 'invalid-argument'],
  ['standard input where it cannot be', 'info -', 64, 'invalid-argument'],
  ['standard input as a parent', 'create @out.vdi --parent -', 64, 'invalid-argument'],
  ['--into with a variant', 'convert SAMPLE @existing.raw --into --variant fixed', 64, 'invalid-argument'],
  ['an unknown shell', 'completion tcsh', 64, 'invalid-argument'],
  ['a check of a missing file', 'check @missing.vdi', 1, 'not-found'],
  ['a check of what has none', 'check @existing.raw', 63, 'unsupported'],
  ['a check of a directory', 'check @directory', 63, 'unsupported'],
  ['a dry run of nothing', 'check SAMPLE --dry-run', 64, 'invalid-argument'],
  ['a repair without locks of others', 'check SAMPLE --repair --force-share', 1, 'invalid-argument'],
  ['copying a missing file', 'copy @missing.vdi @out.vdi', 1, 'not-found'],
  ['copying a chain to a file', 'copy @diff.vdi @out.vdi', 64, 'invalid-argument'],
  ['copying onto a file', 'copy @own.vdi @existing.raw', 1, 'exists'],
  ['copying onto itself', 'copy @own.vdi @own.vdi --force', 1, 'invalid-argument'],
  ['copying to an unknown format', 'copy @own.vdi @out.vdi --to vdy', 64, 'invalid-argument'],
  ['moving a parent', 'copy @base.vdi @out.raw --to raw --move', 1, 'busy'],
  ['moving onto a file', 'copy @own.vdi @existing.raw --move', 1, 'exists'],
  ['moving a snapshot to another format', 'copy @diff.vdi @out.raw --to raw --move', 1, 'unsupported'],
  ['merging a missing file', 'merge @missing.vdi', 1, 'not-found'],
  ['merging an image without a parent', 'merge @own.vdi', 64, 'invalid-argument'],
  ['merging from a number that is none', 'merge @diff.vdi --from x', 64, 'invalid-argument'],
  ['merging an image that there is not', 'merge @diff.vdi --from 2', 64, 'invalid-argument'],
  ['merging an image with itself', 'merge @diff.vdi --from 1 --to-image 1', 64, 'invalid-argument'],
  ['a chain beside a parent', 'map @diff.vdi --chain @base.vdi --parent @base.vdi', 64, 'invalid-argument'],
  ['a chain of missing files', 'map @diff.vdi --chain @missing.vdi', 1, 'not-found'],
  ['compacting a missing file', 'compact @missing.vdi', 1, 'not-found'],
  ['compacting what nothing identifies', 'compact @existing.raw', 1, 'denied'],
  ['compacting a format that cannot', 'compact @disk.raw --format raw', 1, 'unsupported'],
  ['compacting standard input', 'compact -', 64, 'invalid-argument'],
  ['resizing a missing file', 'resize @missing.vdi 1G', 1, 'not-found'],
  ['resizing a raw image that ends inside a sector', 'resize @existing.raw 1G --format raw', 1, 'read-only'],
  ['resizing to no size', 'resize SAMPLE big', 64, 'invalid-argument'],
  ['resizing without a size', 'resize SAMPLE', 64, 'invalid-argument'],
  ['resizing by too much', 'resize @own.vdi -1T', 64, 'invalid-argument'],
  ['resizing by no whole sector', 'resize @own.vdi +100', 1, 'invalid-argument'],
  ['resizing to nothing', 'resize @own.vdi 0', 1, 'invalid-argument'],
  ['an option of resize that does not exist', 'resize @own.vdi 1G --shrnk', 64, 'invalid-argument'],
  ['setting nothing', 'set SAMPLE', 64, 'invalid-argument'],
  ['setting a bad UUID', 'set SAMPLE --uuid 123', 64, 'invalid-argument'],
  ['setting a random parent', 'set SAMPLE --parent-uuid random', 64, 'invalid-argument'],
  ['setting a bad geometry', 'set SAMPLE --geometry 1024x16x63', 64, 'invalid-argument'],
  ['setting an impossible geometry', 'set @own.vdi --geometry 1024/17/63', 1, 'invalid-argument'],
  ['setting a comment that is too long', `set @own.vdi --comment ${'x'.repeat(300)}`, 1, 'invalid-argument'],
  ['setting a parent twice', 'set @own.vdi --parent SAMPLE --parent-uuid null', 64, 'invalid-argument'],
  ['setting itself as parent', 'set @own.vdi --parent @own.vdi', 1, 'invalid-argument'],
  ['setting a missing parent', 'set @own.vdi --parent @missing.vdi', 1, 'not-found'],
  ['setting what raw cannot store', 'set @disk.raw --format raw --comment x', 1, 'unsupported'],
  ['renaming a missing file', 'rename @missing.vdi @new.vdi', 1, 'not-found'],
  ['renaming onto a file', 'rename @own.vdi @existing.raw', 1, 'exists'],
  ['renaming onto a directory', 'rename @own.vdi @directory', 1, 'exists'],
  ['renaming into a missing directory', 'rename @own.vdi @nowhere/new.vdi', 1, 'not-found'],
  ['renaming to a directory', 'rename @own.vdi @new/', 64, 'invalid-argument'],
  ['deleting a missing file', 'delete @missing.vdi', 1, 'not-found'],
  ['deleting a directory', 'delete @directory', 1, 'unsupported'],
  ['deleting what nothing identifies', 'delete @existing.raw', 1, 'denied'],
  ['measuring nothing', 'measure --to vdi', 64, 'invalid-argument'],
  ['measuring without a format', 'measure SAMPLE', 64, 'invalid-argument'],
  ['measuring a missing file', 'measure @missing.vdi --to vdi', 1, 'not-found'],
  ['measuring a format that cannot be made', 'measure SAMPLE --to cloop', 1, 'unsupported'],
  ['measuring an impossible size', 'measure --size 100 --to vdi', 1, 'invalid-argument'],
];

describe('bad input', () => {
  it.each(FAILURES)('%s: %s', async (_, command, status, kind) => {
    const before = state();
    const words = command.split(' ').map(place);
    const people = await runCli(words);
    expect(people.stderr).toMatch(/^error: .+\nhint: .+\n$/);
    expect(people.stderr).not.toMatch(/undefined|\[object|^\s+at /m);
    expect({ status: people.status, stdout: people.stdout }).toEqual({ status, stdout: '' });

    const programs = await runCli([...words, '--json']);
    // `--format` without a value takes --json for it.
    if (!command.endsWith('--format')) {
      expect(programs.status).toBe(status);
      const document = JSON.parse(programs.stdout);
      expect(Object.keys(document)).toEqual(['error']);
      expect(Object.keys(document.error)).toEqual(['kind', 'status', 'message', 'context', 'hint']);
      expect(document.error.kind).toBe(kind);
      expect(programs.stderr).toBe('');
    }
    expect(state()).toEqual(before);
  });

  it.each([
    ['--json', 'convert SAMPLE - --json'],
    ['another format', 'convert SAMPLE - --to vdi'],
    ['--verify', 'convert SAMPLE - --verify'],
    ['--into', 'convert SAMPLE - --into'],
    ['--parent', 'convert SAMPLE - --parent SAMPLE'],
    ['a variant', 'convert SAMPLE - --variant sparse'],
  ])('standard output does not take %s', async (_, command) => {
    const { status, bytes, stderr } = await runCli(command.split(' ').map(place));
    expect(status).toBe(64);
    if (!command.includes('--json')) {
      expect(bytes.length).toBe(0);
      expect(stderr).toMatch(/^error: .+\nhint: .+\n$/);
    }
  });

  it('does not write a disk to a terminal', async () => {
    const { status, stdout } = await runCli(['convert', SAMPLE, '-'], { terminal: true });
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
  });

  it('does not wait for standard input when the target cannot be made', async () => {
    const stdin = new Readable({ read() {} });
    const { status, stderr } = await runCli(['convert', '-', place('@existing.raw')], { stdin });
    expect(status).toBe(1);
    expect(stderr).toContain('exists');
  });

  it('maps a damaged image to its end, and says so', async () => {
    const json = await runCli(['map', '--json', place('@truncated.vdi')]);
    const { extents, ...rest } = JSON.parse(json.stdout) as { extents: Record<string, unknown>[] };
    expect({ status: json.status, stderr: json.stderr, rest }).toEqual({
      status: 2,
      stderr: '',
      rest: { schema: 'vdkit/map/1' },
    });
    const damaged = extents.find(({ state }) => state === 'damaged');
    expect(damaged?.['reason']).toMatch(/truncated\.vdi: .+ beyond the end of the file/);
    expect(extents.filter(({ state }) => state === 'data').some(({ reason }) => reason !== undefined)).toBe(false);
    const last = extents.at(-1);
    expect(Number(last?.['offset']) + Number(last?.['length'])).toBe(8 * 1024 ** 2);
    const table = await runCli(['map', place('@truncated.vdi')]);
    expect(table.status).toBe(2);
    expect(table.stdout).toMatch(/ damaged +0 +0 +\S+truncated\.vdi: .+ beyond the end of the file/);
  });

  it('saves what can be read of a damaged image, and says what is missing', async () => {
    const [image, target] = [place('@truncated.vdi'), place('@saved.raw')];
    const { status, stderr } = await runCli(['convert', '--salvage', image, target]);
    expect(status).toBe(2);
    expect(stderr).toMatch(
      /warning: \d+ bytes at offset \d+ could not be read and are zero in the target: .+truncated\.vdi: /,
    );
    expect(stderr.trimEnd().split('\n').at(-1)).toMatch(/; incomplete: \d+ bytes in \d+ ranges? could not be read/);
    const json = await runCli(['convert', '--salvage', '--json', '--force', image, target]);
    const { unreadable } = JSON.parse(json.stdout) as { unreadable: { offset: number; length: number }[] };
    expect(json.status).toBe(2);
    const whole = place('@whole.raw');
    expect((await runCli(['convert', '--salvage', SAMPLE, whole])).status).toBe(0);
    const [saved, wanted] = [readFileSync(target), readFileSync(whole)];
    for (const { offset, length } of unreadable) wanted.fill(0, offset, offset + length);
    expect(saved.equals(wanted)).toBe(true);
    expect(unreadable.reduce((sum, { length }) => sum + length, 0)).toBeLessThanOrEqual(700_000);
    const piped = await runCli(['convert', '--salvage', image, '-']);
    expect(piped.status).toBe(2);
    expect(saved.equals(piped.bytes)).toBe(true);
    for (const name of [target, whole]) rmSync(name);
  });

  it('says of a block that is cut off that its rest cannot be read', async () => {
    const { stdout } = await runCli(['check', place('@truncated.vdi')]);
    expect(stdout).toMatch(/is cut off by the end of the file: its last \d+ bytes cannot be read/);
  });

  it('hints at the option that helps', async () => {
    const hints = async (command: string): Promise<string> =>
      (await runCli(command.split(' ').map(place))).stderr.split('hint: ')[1] ?? '';
    expect(await hints('convert SAMPLE @existing.raw')).toContain('--force');
    expect(await hints('convert SAMPLE @existing.raw --into')).toContain('--to raw');
    expect(await hints('convert SAMPLE @out.xyz')).toMatch(/--to.*vdi.*raw/);
    expect(await hints('create @out.vdi 1M --variant nope')).toContain('dynamic, fixed');
  });

  it('shows a stack only with --debug', async () => {
    const plain = await runCli(['info', place('@missing')]);
    expect(plain.stderr).not.toMatch(/^\s+at /m);
    const debug = await runCli(['info', '--debug', place('@missing')]);
    expect(debug.stderr).toMatch(/^\s+at /m);
    expect(debug.stderr).toMatch(/^error: /m);
  });

  it('escapes names that could drive a terminal', async () => {
    const { stderr } = await runCli(['info', place('@\u001b[2Jmissing')]);
    expect(stderr).toContain('\\x1b[2Jmissing');
  });

  // QCOW2 stores the name, in which it takes no characters below 0x20; VDI finds whatever has the UUID.
  describe.each([
    ['qcow2', 'evil\u009b31m\u202eerror: forged.raw'],
    ['vdi', 'evil\u001b[2J\u009b31m\u202e\nerror: forged\n    at forged.vdi'],
  ])('a hostile name of a parent: %s', (format, name) => {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
    const unsafe = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/;
    const commands = [
      'info @evil',
      'info @evil --backing-chain',
      'map @evil',
      'convert @evil @out.raw --force',
      'convert @evil @out.raw --force --allow none',
      'check @evil',
      'compare @evil @disk.raw',
      'measure @evil --to vdi',
      'commit @evil --base nowhere',
      'merge @evil --dry-run',
      'rebase @evil --to @nowhere',
      'amend @evil --option backing_fmt=nowhere',
      'resize @evil +1M',
      'copy @evil @copy',
      'rename @evil @directory',
    ];

    beforeAll(async () => {
      const parentFormat = format === 'vdi' ? 'vdi' : 'raw';
      await runCli(['create', place(`@${name}`), '64K', '--to', parentFormat]);
      const words = ['--parent', place(`@${name}`), '--parent-format', parentFormat];
      const { status } = await runCli(['create', place('@evil'), '--to', format, '--force', ...words]);
      expect(status).toBe(0);
    });

    const check = async (command: string): Promise<void> => {
      for (const more of [[], ['--debug'], ['--json'], ['--json', '--debug']]) {
        const { stdout, stderr } = await runCli([...command.split(' ').map(place), ...more]);
        expect(stdout + stderr).not.toMatch(unsafe);
        expect(stdout + stderr).not.toMatch(/^(error: forged| {4}at forged)/m);
        if (more.includes('--json') && stdout !== '') JSON.parse(stdout);
      }
    };

    it.each(commands)('is escaped by %s', check);

    it.each(commands)('is escaped where its file is damaged or missing, by %s', async (command) => {
      if (format === 'vdi') truncateSync(place(`@${name}`), 600);
      else rmSync(place(`@${name}`), { force: true });
      await check(command);
    });
  });

  it('colours its labels on a terminal, unless NO_COLOR is set', async () => {
    const words = ['info', place('@missing')];
    expect((await runCli(words, { terminal: true })).stderr).toContain('\u001b[');
    const declined = await runCli(words, { terminal: true, environment: { NO_COLOR: '1' } });
    expect(declined.stderr).not.toContain('\u001b[');
  });
});
