/** Output and results of each command in normal operation. */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Random } from '../../src/testing/random.ts';
import { runCli } from './run-cli.ts';

const SAMPLE = fileURLToPath(new URL('../../samples/disk.vdi', import.meta.url));
const MIB = 2 ** 20;
const INFO_KEYS = [
  'file',
  'format',
  'wrappings',
  'guessed',
  'reason',
  'type',
  'variant',
  'allocation',
  'virtualSize',
  'fileSize',
  'allocatedSize',
  'blockSize',
  'sectorSize',
  'version',
  'uuid',
  'modificationUuid',
  'parentUuid',
  'parentModificationUuid',
  'parent',
  'parentFormat',
  'comment',
  'geometry',
  'dirty',
  'snapshots',
  'bitmaps',
  'encryption',
  'details',
  'tracks',
  'lock',
  'parts',
];
/** Of the disk, and so not of each image of a chain. */
const PARTITION_KEYS = ['partitionTable', 'partitions'];

let folder: string;
const at = (name: string): string => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-cli-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs a command that must succeed and say nothing but its output. */
async function ok(...words: string[]): Promise<string> {
  const { status, stdout, stderr } = await runCli(words);
  expect({ status, stderr: stderr.includes('error:') ? stderr : '' }).toEqual({ status: 0, stderr: '' });
  return stdout;
}

/** A raw disk of 4 MiB with data at three places and zeroes between. */
function rawDisk(): Uint8Array {
  const bytes = new Uint8Array(4 * MIB);
  for (const start of [0, MIB + 512, 3 * MIB]) bytes.fill(0xa5, start, start + 4096);
  return bytes;
}

describe('info', () => {
  it('prints exactly the documented JSON keys', async () => {
    const report = JSON.parse(await ok('info', '--json', SAMPLE));
    expect(Object.keys(report)).toEqual(['schema', ...INFO_KEYS, ...PARTITION_KEYS]);
    expect(report).toMatchObject({
      schema: 'vdkit/info/1',
      file: SAMPLE,
      format: 'vdi',
      virtualSize: 8 * MIB,
      parent: null,
    });
    expect(Object.keys(report.geometry)).toEqual(['physical', 'logical']);
  });

  it('reports the chain base first', async () => {
    await ok('create', at('base.vdi'), '8M', '--comment', 'the base');
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    const report = JSON.parse(await ok('info', '--json', '--backing-chain', at('diff.vdi')));
    expect(Object.keys(report)).toEqual(['schema', ...INFO_KEYS, ...PARTITION_KEYS, 'chain']);
    expect(report.chain.map(({ file }: { file: string }) => file)).toEqual([at('base.vdi'), at('diff.vdi')]);
    for (const one of report.chain) expect(Object.keys(one)).toEqual(INFO_KEYS);
    expect(report.parentUuid).toBe(report.chain[0].uuid);
    expect(report.chain[0].comment).toBe('the base');
  });

  it('aligns its lines and leaves out what is not known', async () => {
    const lines = (await ok('info', SAMPLE)).trimEnd().split('\n');
    expect(new Set(lines.map((line) => /^[^:]+: +/.exec(line)?.[0].length)).size).toBe(1);
    expect(lines).toContainEqual(expect.stringMatching(/^virtual size: +8 MiB \(8388608 bytes\)$/));
    expect(lines.join('\n')).not.toMatch(/null|undefined|comment/);
  });

  it('escapes what could drive a terminal', async () => {
    await ok('create', at('evil.vdi'), '1M', '--comment', 'a\u001b[31mb');
    const text = await ok('info', at('evil.vdi'));
    expect(text).toContain('a\\x1b[31mb');
    expect(text).not.toContain('\u001b');
  });
});

describe('create', () => {
  it('makes what it was asked for', async () => {
    const uuid = '01234567-89ab-cdef-0123-456789abcdef';
    const made = JSON.parse(await ok('create', at('new.vdi'), '1.5G', '--uuid', `{${uuid.toUpperCase()}}`, '--json'));
    expect(made).toMatchObject({ schema: 'vdkit/create/1', format: 'vdi', virtualSize: 1.5 * 2 ** 30, uuid });
    expect(readdirSync(folder)).toEqual(['new.vdi']);
  });

  it('takes the format from --to, aliases and capitals included', async () => {
    await ok('create', at('disk.bin'), '1M', '--to', 'VDI');
    expect(JSON.parse(await ok('info', '--json', at('disk.bin'))).format).toBe('vdi');
  });

  it.each([
    ['--variant', 'fixed'],
    ['--preallocation', 'full'],
    ['--preallocation', 'falloc'],
  ])('%s %s takes all room', async (...words) => {
    const made = JSON.parse(await ok('create', at('fixed.vdi'), '4M', '--json', ...words));
    expect(made.variant).toContain('fixed');
    expect(made.fileSize).toBeGreaterThan(4 * MIB);
  });

  it('hands --block-size and --option to the format', async () => {
    const one = JSON.parse(await ok('create', at('a.vdi'), '64M', '--block-size', '2M', '--json'));
    const two = JSON.parse(await ok('create', at('b.vdi'), '64M', '--option', 'allocationblocksize=2M', '--json'));
    expect([one.blockSize, two.blockSize]).toEqual([2 * MIB, 2 * MIB]);
    const three = JSON.parse(await ok('create', at('c.qcow2'), '64M', '--block-size', '1M', '--json'));
    expect(three.blockSize).toBe(MIB);
  });

  it('translates --preallocation into the option of the format', async () => {
    const off = JSON.parse(await ok('create', at('off.qcow2'), '4M', '--json'));
    const full = JSON.parse(await ok('create', at('full.qcow2'), '4M', '--json', '--preallocation', 'full'));
    expect(full.fileSize - off.fileSize).toBeGreaterThanOrEqual(4 * MIB);
    await ok('create', at('tables.qcow2'), '4M', '--preallocation', 'metadata');
  });

  it('takes a name that begins with a dash behind --', async () => {
    const { status } = await runCli(['create', '--to', 'vdi', '--quiet', '--', join(folder, '-odd'), '1M']);
    expect(status).toBe(0);
    expect(readdirSync(folder)).toEqual(['-odd']);
  });
});

describe('convert', () => {
  it('goes there and back', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    const result = JSON.parse(await ok('convert', at('a.raw'), at('b.vdi'), '--json'));
    expect(Object.keys(result)).toEqual([
      'schema',
      'source',
      'target',
      'format',
      'virtualSize',
      'written',
      'unreadable',
      'warnings',
    ]);
    expect(result).toMatchObject({ schema: 'vdkit/convert/1', format: 'vdi', virtualSize: 4 * MIB, unreadable: [] });
    await ok('convert', at('b.vdi'), at('c.raw'), '--verify', '--threads', '2', '--sparse-size', '0');
    expect(readFileSync(at('c.raw')).equals(rawDisk())).toBe(true);
  });

  it('replaces a target only with --force', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    writeFileSync(at('b.raw'), 'precious');
    await ok('convert', at('a.raw'), at('b.raw'), '--force');
    expect(readFileSync(at('b.raw')).equals(rawDisk())).toBe(true);
  });

  it('writes into an existing image with --into', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    await ok('create', at('b.vdi'), '4M', '--comment', 'stays');
    await ok('convert', at('a.raw'), at('b.vdi'), '--into');
    await ok('compare', at('a.raw'), at('b.vdi'));
    expect(JSON.parse(await ok('info', '--json', at('b.vdi'))).comment).toBe('stays');
  });

  it('leaves what a larger target of --into holds behind the end of the source, and says so', async () => {
    writeFileSync(at('a.raw'), new Uint8Array(MIB).fill(1));
    writeFileSync(at('b.raw'), new Uint8Array(2 * MIB).fill(2));
    const { status, stderr } = await runCli(['convert', at('a.raw'), at('b.raw'), '--into', '--to', 'raw', '--verify']);
    expect(status).toBe(0);
    expect(stderr).toContain(`its data from byte ${MIB} on is unchanged`);
    const bytes = readFileSync(at('b.raw'));
    expect([bytes.length, bytes[MIB - 1], bytes.subarray(MIB).every((byte) => byte === 2)]).toEqual([2 * MIB, 1, true]);
  });

  it.each([
    ['a new image', ['OUT', '--size', '3M']],
    ['an image that is there', ['THERE', '--into', '--to', 'raw']],
    ['standard output', ['-', '--size', '3M']],
  ])('cuts zeroes off the source only with --shrink: %s', async (_, words) => {
    const names: Record<string, string> = { OUT: at('out.raw'), THERE: at('there.raw') };
    writeFileSync(at('a.raw'), new Uint8Array(4 * MIB).fill(3, 0, 2 * MIB));
    writeFileSync(at('there.raw'), new Uint8Array(3 * MIB).fill(9));
    const command = ['convert', at('a.raw'), ...words.map((word) => names[word] ?? word)];
    const refused = await runCli(command);
    expect(refused.status).toBe(1);
    expect(refused.bytes.length).toBe(0);
    for (const text of [`${4 * MIB}`, `${3 * MIB}`, '--shrink']) expect(refused.stderr).toContain(text);
    expect(readFileSync(at('there.raw')).every((byte) => byte === 9)).toBe(true);
    expect(readdirSync(folder).sort()).toEqual(['a.raw', 'there.raw']);
    const done = await runCli([...command, '--shrink']);
    expect(done.status).toBe(0);
    const made = words[0] === '-' ? done.bytes : readFileSync(names[words[0] ?? ''] ?? '');
    expect(Buffer.from(made).equals(Buffer.alloc(3 * MIB, 3).fill(0, 2 * MIB))).toBe(true);
  });

  it('makes a differencing image over --parent', async () => {
    await ok('convert', SAMPLE, at('base.vdi'));
    await ok('convert', SAMPLE, at('diff.vdi'), '--parent', at('base.vdi'));
    await ok('compare', SAMPLE, at('diff.vdi'));
    expect(JSON.parse(await ok('info', '--json', at('diff.vdi'))).variant).toContain('diff');
  });

  it('reads the source through --source-parent', async () => {
    mkdirSync(at('elsewhere'));
    await ok('convert', SAMPLE, at('base.vdi'));
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    renameSync(at('base.vdi'), at('elsewhere/base.bin'));
    const refused = await runCli(['convert', at('diff.vdi'), at('x.raw')]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('--source-parent');
    await ok('convert', at('diff.vdi'), at('x.raw'), '--source-parent', at('elsewhere/base.bin'));
    await ok('compare', SAMPLE, at('x.raw'));
    await ok('compare', at('diff.vdi'), at('x.raw'), '--parent', at('elsewhere/base.bin'));
  });

  it('reads standard input', async () => {
    const stdin = Readable.from([readFileSync(SAMPLE)]);
    const { status } = await runCli(['convert', '-', at('x.raw')], { stdin });
    expect(status).toBe(0);
    await ok('compare', SAMPLE, at('x.raw'));
    expect(readdirSync(folder)).toEqual(['x.raw']);
  });

  it.each([
    ['raw', 'vdi'],
    ['raw', 'qcow2', '--compress'],
    ['qcow2', 'qcow2', '--compress=zstd'],
    ['qcow2', 'raw'],
  ])('reads a %s image from standard input in pieces of any length, into %s', async (from, to, ...words) => {
    writeFileSync(at('a.raw'), rawDisk());
    await ok('convert', at('a.raw'), at(`source.${from}`));
    const bytes = readFileSync(at(`source.${from}`));
    const random = new Random(9);
    const pieces = async function* () {
      for (let start = 0; start < bytes.length; ) {
        const end = start + 1 + random.below(random.pick([600, MIB]));
        yield bytes.subarray(start, end);
        await new Promise(setImmediate);
        start = end;
      }
    };
    const target = at(`out.${to}`);
    for (const threads of [1, 2, 8]) {
      const options = ['--format', from, '--threads', `${threads}`, '--verify', '--force', ...words];
      const { status } = await runCli(['convert', '-', target, ...options], { stdin: Readable.from(pieces()) });
      expect(status).toBe(0);
      await ok('compare', at('a.raw'), target);
    }
  });

  it('writes raw bytes to standard output, in order', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    await ok('convert', at('a.raw'), at('b.vdi'));
    const { status, bytes } = await runCli(['convert', at('b.vdi'), '-', '--size', '5M']);
    expect(status).toBe(0);
    expect(bytes.length).toBe(5 * MIB);
    expect(Buffer.from(bytes.subarray(0, 4 * MIB)).equals(rawDisk())).toBe(true);
    expect(bytes.subarray(4 * MIB).every((byte) => byte === 0)).toBe(true);
  });

  it('writes a VMDK stream to standard output, and raw bytes from standard input into every VMDK', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    const piped = await runCli(['convert', at('a.raw'), '-', '--to', 'vmdk', '--variant', 'stream', '--comment', 'c']);
    expect(piped.status).toBe(0);
    writeFileSync(at('piped.vmdk'), piped.bytes);
    // As in the streams of vSphere: a pipe has no name.
    expect(Buffer.from(piped.bytes.subarray(0, 2048)).toString('latin1')).toContain('SPARSE "generated-stream.vmdk"');
    const words = ['dynamic', 'fixed', 'split', 'fixed,split', 'stream', 'esx'];
    for (const [index, word] of words.entries()) {
      const stdin = Readable.from([rawDisk()]);
      const target = at(`from${index}.vmdk`);
      expect((await runCli(['convert', '-', target, '--variant', word], { stdin })).status, word).toBe(0);
    }
    for (const name of ['piped', ...words.keys()].map((one) => (one === 'piped' ? one : `from${one}`)))
      await ok('compare', at(`${name}.vmdk`), at('a.raw'));
    const { status, stderr } = await runCli(['convert', at('a.raw'), '-', '--to', 'vmdk']);
    expect(status).toBe(64);
    expect(stderr).toContain('Use --variant stream');
    for (const level of ['1', '9']) {
      await ok('convert', at('a.raw'), at(`level${level}.vmdk`), '--variant', 'stream', `--compress=${level}`);
      await ok('compare', at(`level${level}.vmdk`), at('a.raw'));
    }
    const refused = await runCli(['convert', at('a.raw'), at('no.vmdk'), '--compress=9']);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('--variant stream');
    expect(existsSync(at('no.vmdk'))).toBe(false);
  });

  it('reads a VMDK stream from standard input as it comes, without a temporary file', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    await ok('convert', at('a.raw'), at('a.vmdk'), '--variant', 'stream', '--comment', 'of the stream');
    const bytes = readFileSync(at('a.vmdk'));
    const pieces = async function* () {
      for (let start = 0; start < bytes.length; start += 9_999) yield bytes.subarray(start, start + 9_999);
    };
    const spooled = process.env['TMPDIR'];
    // Nothing could be spooled there.
    process.env['TMPDIR'] = at('gone');
    try {
      for (const [target, ...options] of [
        ['b.raw'],
        ['b.vdi'],
        ['b.vmdk', '--variant', 'stream'],
        ['b.qcow2', '--compress'],
      ]) {
        const { status, stderr } = await runCli(['convert', '-', at(`${target}`), ...options], {
          stdin: Readable.from(pieces()),
        });
        expect(status, stderr).toBe(0);
        expect(stderr).toContain('The copy lacks the comment of standard input: "of the stream"');
      }
      const piped = await runCli(['convert', '-', '-'], { stdin: Readable.from(pieces()) });
      expect(Buffer.from(piped.bytes).equals(rawDisk())).toBe(true);
      const cut = await runCli(['convert', '-', at('cut.raw')], { stdin: Readable.from([bytes.subarray(0, -3000)]) });
      expect(cut.status).toBe(1);
      expect(cut.stderr).toContain('standard input: The stream was cut off');
      // Reading it twice needs a file.
      const twice = await runCli(['convert', '-', at('twice.raw'), '--verify'], { stdin: Readable.from(pieces()) });
      expect(twice.stderr).toContain('gone');
    } finally {
      if (spooled === undefined) delete process.env['TMPDIR'];
      else process.env['TMPDIR'] = spooled;
    }
    for (const name of ['b.raw', 'b.vdi', 'b.vmdk', 'b.qcow2']) await ok('compare', at(name), at('a.raw'));
    expect(readdirSync(folder).sort()).toEqual(['a.raw', 'a.vmdk', 'b.qcow2', 'b.raw', 'b.vdi', 'b.vmdk']);
    const verified = await runCli(['convert', '-', at('c.raw'), '--verify'], { stdin: Readable.from(pieces()) });
    expect(verified.status).toBe(0);
  });

  it('fills gaps of any length in standard output', async () => {
    await ok('create', at('b.vdi'), '6M');
    writeFileSync(at('a.raw'), new Uint8Array(MIB).fill(7));
    await ok('convert', at('a.raw'), at('b.vdi'), '--into');
    const { bytes } = await runCli(['convert', at('b.vdi'), '-']);
    expect(bytes.length).toBe(6 * MIB);
    expect(bytes[MIB - 1]).toBe(7);
    expect(bytes.subarray(MIB).every((byte) => byte === 0)).toBe(true);
  });

  it('writes progress as JSON lines that never fall and end at the total', async () => {
    const { status, stderr } = await runCli(['convert', SAMPLE, at('x.raw'), '--progress', 'json', '--quiet']);
    expect(status).toBe(0);
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    const done = lines.map((line) => line.done);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(lines.at(-1)).toMatchObject({ operation: 'convert', done: 8 * MIB, total: 8 * MIB });
  });

  it('shows a bar on a terminal, and no colours where they were declined', async () => {
    const words = ['convert', SAMPLE, at('x.raw'), '--force'];
    const shown = await runCli(words, { terminal: true });
    expect(shown.stderr).toContain('%');
    const quiet = await runCli([...words, '--quiet'], { terminal: true });
    expect(quiet.stderr).toBe('');
    const piped = await runCli(words);
    expect(piped.stderr).not.toContain('%');
  });

  it('leaves nothing behind when it is interrupted', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    let interrupt = (): void => {};
    const { status, stderr } = await runCli(
      ['convert', at('a.raw'), at('b.vdi'), '--rate-limit', '1', '--progress', 'json'],
      {
        onStart: (stop) => {
          interrupt = stop;
        },
        onStderr: () => interrupt(),
      },
    );
    expect(status).toBe(130);
    expect(stderr).toMatch(/^cancelled; no target was left behind$/m);
    expect(readdirSync(folder)).toEqual(['a.raw']);
  });

  it('stops reading standard input when it is interrupted', async () => {
    const stdin = new Readable({ read() {} });
    const { status, stdout } = await runCli(['convert', '-', at('b.vdi'), '--json'], {
      stdin,
      onStart: (stop) => setImmediate(stop),
    });
    expect(status).toBe(130);
    expect(JSON.parse(stdout).error).toMatchObject({ kind: 'aborted', status: 'VERR_CANCELLED' });
    expect(readdirSync(folder)).toEqual([]);
  });
});

describe('map', () => {
  it('lists the extents as JSON, also of a part', async () => {
    const whole = JSON.parse(await ok('map', '--json', SAMPLE));
    expect(Object.keys(whole)).toEqual(['schema', 'extents']);
    expect(whole.schema).toBe('vdkit/map/1');
    let end = 0;
    for (const extent of whole.extents) {
      expect(Object.keys(extent)).toEqual([
        'offset',
        'length',
        'state',
        'image',
        'depth',
        'compressed',
        'file',
        'fileOffset',
      ]);
      expect(extent.offset).toBe(end);
      expect(extent.file === null).toBe(extent.state !== 'data');
      end += extent.length;
    }
    expect(end).toBe(8 * MIB);
    const part = JSON.parse(await ok('map', '--json', '--start', '1M', '--length', '512', SAMPLE));
    expect(part.extents).toMatchObject([{ offset: MIB, length: 512 }]);
    const none = JSON.parse(await ok('map', '--json', '--start', '8M', SAMPLE));
    expect(none.extents).toEqual([]);
  });

  it('prints a table whose columns stay where they are', async () => {
    const [heading = '', ...rows] = (await ok('map', SAMPLE)).trimEnd().split('\n');
    expect(heading.trim().split(/ +/)).toEqual(['OFFSET', 'LENGTH', 'STATE', 'IMAGE', 'DEPTH', 'FILE:OFFSET']);
    for (const row of rows) expect(row).toMatch(/^ *\d+ +\d+ {2}(data|zero|absent) +(\d+|-) +(\d+|-) {2}(-|\/.*:\d+)$/);
  });

  it('numbers images from the base and depths from the last', async () => {
    await ok('convert', SAMPLE, at('base.vdi'));
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    const { extents } = JSON.parse(await ok('map', '--json', at('diff.vdi')));
    expect(extents[0]).toMatchObject({ state: 'data', image: 0, depth: 1, file: at('base.vdi') });
  });
});

describe('compare', () => {
  it('answers by its exit status: same, different, trouble', async () => {
    writeFileSync(at('a.raw'), rawDisk());
    await ok('convert', at('a.raw'), at('b.vdi'));
    expect(await ok('compare', at('a.raw'), at('b.vdi'))).toBe('Images are identical.\n');
    const changed = rawDisk();
    changed[3 * MIB + 5] = 1;
    writeFileSync(at('c.raw'), changed);
    const text = await runCli(['compare', at('b.vdi'), at('c.raw')]);
    expect(text).toMatchObject({ status: 1, stderr: '' });
    expect(text.stdout).toContain(`offset ${3 * MIB + 5} (0x300005)`);
    const json = await runCli(['compare', '--json', at('b.vdi'), at('c.raw')]);
    expect(json.status).toBe(1);
    expect(JSON.parse(json.stdout)).toEqual({
      schema: 'vdkit/compare/1',
      same: false,
      firstDifference: 3 * MIB + 5,
      sizes: [4 * MIB, 4 * MIB],
    });
    const trouble = await runCli(['compare', '--json', at('b.vdi'), at('missing')]);
    expect(trouble.status).toBe(2);
    expect(JSON.parse(trouble.stdout).error.kind).toBe('not-found');
  });

  it('takes a zero tail for the same, unless strict', async () => {
    const disk = rawDisk();
    writeFileSync(at('a.raw'), disk);
    writeFileSync(at('longer.raw'), Buffer.concat([disk, new Uint8Array(MIB)]));
    expect(await ok('compare', at('a.raw'), at('longer.raw'))).toContain('identical');
    const strict = await runCli(['compare', '--strict', at('a.raw'), at('longer.raw')]);
    expect(strict.status).toBe(1);
    expect(strict.stdout).toContain(`${4 * MIB} and ${5 * MIB} bytes`);
  });

  it('reads A and B as what they are named', async () => {
    const { status } = await runCli(['compare', '--quiet', '--format', 'raw', '--format-b', 'vdi', SAMPLE, SAMPLE]);
    expect(status).toBe(1);
  });
});

describe('formats', () => {
  it('lists formats with what can be done', async () => {
    const text = await ok('formats');
    expect(text).toMatch(/^vdi +read write create diff +vdi /m);
    expect(text).toMatch(/^raw +read write create +raw /m);
    const { schema, formats } = JSON.parse(await ok('formats', '--json'));
    expect(schema).toBe('vdkit/formats/1');
    const vdi = formats.find(({ name }: { name: string }) => name === 'vdi');
    expect(vdi.configKeys).toContainEqual(
      expect.objectContaining({ name: 'AllocationBlockSize', valueType: 'integer' }),
    );
    for (const { recognisedOnly, opensInside, capabilities, name } of formats) {
      expect(recognisedOnly).toBe(!capabilities.read);
      const words = opensInside ? 'read images inside' : 'recognised';
      if (recognisedOnly) expect(text).toMatch(new RegExp(`^${name}\\b.* ${words} `, 'm'));
    }
    const inside = formats.filter(({ opensInside }: { opensInside: boolean }) => opensInside);
    expect(inside.map(({ name }: { name: string }) => name)).toEqual(['tar', 'zip', 'gzip', 'xz', 'bzip2', 'zstd']);
  });
});

describe('--allow', () => {
  it('opens parents beside the image, elsewhere only when allowed, and none on demand', async () => {
    await ok('create', at('base.vdi'), '1M');
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    await ok('map', at('diff.vdi'));
    const closed = await runCli(['map', '--allow', 'none', '--json', at('diff.vdi')]);
    expect(closed.status).toBe(1);
    expect(JSON.parse(closed.stdout).error.kind).toBe('denied');
    const both = await runCli(['map', '--allow', 'none', '--allow', folder, at('diff.vdi')]);
    expect(both.status).toBe(64);
  });
});
