/** Files without a disk, and disks in formats that cannot be opened: no command takes their bytes for a disk's. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { COMMANDS } from '../../src/cli/table.ts';
import { FORMATS } from '../../src/formats/index.ts';
import { recognisedSamples, tarHeader } from '../hostile/recognised.ts';
import { runCli } from './run-cli.ts';

const MIB = 2 ** 20;
let folder: string;
const at = (name: string): string => join(folder, name);
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-recognised-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Padded to whole sectors, which a raw disk could have. */
function padded(bytes: Uint8Array): Uint8Array {
  const whole = new Uint8Array(Math.ceil(bytes.length / 512) * 512);
  whole.set(bytes);
  return whole;
}

/** Calls of every command with the file FILE; `raw`: options for its plain bytes. Null: it takes no images. */
const CALLS: Readonly<Record<string, string | null>> = {
  info: 'info FILE',
  create: 'create NEW.qcow2 --parent FILE',
  convert: 'convert FILE NEW.vdi',
  map: 'map FILE',
  compare: 'compare FILE FILE',
  check: 'check FILE',
  copy: 'copy FILE NEW.copy',
  merge: 'merge FILE --from 0 --to-image 1',
  commit: 'commit FILE',
  rebase: 'rebase FILE --to none',
  compact: 'compact FILE',
  resize: 'resize FILE 1G',
  set: 'set FILE --comment x',
  amend: 'amend FILE --option x=1',
  snapshot: 'snapshot list FILE',
  bitmap: 'bitmap list FILE',
  measure: 'measure FILE --to vdi',
  cache: null,
  rename: null,
  delete: null,
  formats: null,
  filters: null,
  completion: null,
};

it('every command is tried here', () => {
  expect(Object.keys(CALLS).sort()).toEqual(COMMANDS.map(({ name }) => name).sort());
});

/** Formats whose files are unpacked: these samples are damaged for them. */
const UNPACKED = new Set(FORMATS.flatMap(({ name, unwrap }) => (unwrap === undefined ? [] : [name])));
const SAMPLES = recognisedSamples().map(({ format, bytes }, index) => ({
  title: `${format}, sample ${index}`,
  format,
  bytes,
}));

describe.each(SAMPLES.filter(({ format }) => UNPACKED.has(format)))('$title', ({ bytes }) => {
  it('is damaged for every command that reads it, and never written', async () => {
    writeFileSync(at('file'), bytes);
    for (const call of Object.values(CALLS)) {
      if (call === null) continue;
      const words = call.split(' ').map((word) => word.replace('FILE', at('file')).replace('NEW', at('new')));
      const { status, stderr } = await runCli(words);
      expect(status, `${call}: ${stderr}`).not.toBe(0);
      expect(readdirSync(folder), call).toEqual(['file']);
      expect(readFileSync(at('file')).equals(bytes), call).toBe(true);
    }
  });
});

describe.each(SAMPLES.filter(({ format }) => !UNPACKED.has(format)))('$title', ({ format, bytes }) => {
  beforeEach(() => writeFileSync(at('file'), bytes));
  const words = (call: string): string[] =>
    call.split(' ').map((word) => word.replace('FILE', at('file')).replace('NEW', at('new')));

  it('is refused by every command that would read or write it, and stays as it is', async () => {
    for (const [command, call] of Object.entries(CALLS)) {
      if (call === null || command === 'info') continue;
      const { status, stderr } = await runCli(words(call));
      expect(status, `${call}: ${stderr}`).not.toBe(0);
      expect(readdirSync(folder), call).toEqual(['file']);
      expect(readFileSync(at('file')).equals(bytes), call).toBe(true);
      if (!['convert', 'map', 'compare', 'measure'].includes(command)) continue;
      expect(stderr, call).toContain('The file is recognised as ');
      expect(stderr, call).toContain('--format raw');
    }
  });

  it('is no target of --into, and no parent, without its format', async () => {
    await runCli(['create', at('a.vdi'), '1M']);
    const into = await runCli(['convert', at('a.vdi'), at('file'), '--into', '--shrink']);
    expect([into.status, into.stderr]).toEqual([1, expect.stringContaining('--to raw')]);
    await runCli(['create', at('child.qcow2'), '1M']);
    const parent = ['--parent', at('file')];
    const child = await runCli(['create', at('new.qcow2'), ...parent]);
    expect([child.status, child.stderr]).toEqual([1, expect.stringContaining('--parent-format raw')]);
    const named = await runCli(['map', at('child.qcow2'), ...parent]);
    expect([named.status, named.stderr]).toEqual([1, expect.stringContaining('--parent-format raw')]);
    expect(readFileSync(at('file')).equals(bytes)).toBe(true);
  });

  it('is reported by info, with the reason', async () => {
    const { status, stdout, stderr } = await runCli(['info', at('file'), '--json']);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    const report = JSON.parse(stdout);
    expect(report).toMatchObject({ format, guessed: false, fileSize: bytes.length, virtualSize: null });
    expect(report.reason).not.toBe('');
    expect(stderr).toContain('cannot open');
    const text = await runCli(['info', at('file')]);
    expect([text.status, text.stdout]).toEqual([0, expect.stringContaining(`${format} (${report.reason})`)]);
  });

  it('is a disk like any other with its format', async () => {
    const whole = padded(bytes);
    writeFileSync(at('file'), whole);
    const { status } = await runCli(['convert', at('file'), at('copy.vdi'), '--format', 'raw', '--verify']);
    expect(status).toBe(0);
    const same = await runCli(['compare', at('file'), at('copy.vdi'), '--format', 'raw', '--strict']);
    expect(same.status).toBe(0);
    const report = JSON.parse((await runCli(['info', at('file'), '--format', 'raw', '--json'])).stdout);
    expect(report).toMatchObject({ format: 'raw', guessed: false, virtualSize: whole.length });
  });
});

it('a raw disk is reported as a guess, an image as none', async () => {
  writeFileSync(at('disk.raw'), new Uint8Array(MIB).fill(1));
  const guess = JSON.parse((await runCli(['info', at('disk.raw'), '--json'])).stdout);
  expect(guess).toMatchObject({ format: 'raw', guessed: true, reason: expect.stringContaining('no format') });
  expect((await runCli(['info', at('disk.raw')])).stdout).toContain('raw (a guess: ');
  await runCli(['create', at('a.vdi'), '1M']);
  const report = JSON.parse((await runCli(['info', at('a.vdi'), '--json'])).stdout);
  expect(report).toMatchObject({ format: 'vdi', guessed: false });
});

it('a second image names the option for its format', async () => {
  writeFileSync(at('a.raw'), new Uint8Array(512));
  writeFileSync(at('b.lz'), Buffer.from('LZIP\x01'));
  const { status, stderr } = await runCli(['compare', at('a.raw'), at('b.lz'), '--format', 'raw']);
  expect([status, stderr]).toEqual([2, expect.stringContaining('--format-b raw')]);
});

it('an image that an archive holds as it is can be reached by its offset', async () => {
  const archive = new Uint8Array(512 + MIB);
  archive.set(tarHeader('disk.raw', 'ustar\x0000'));
  archive.fill(5, 512);
  writeFileSync(at('a.tar'), archive);
  const found = await runCli(['convert', at('a.tar'), at('out.raw'), '--offset', '512', '--format', 'raw']);
  expect(found.status).toBe(0);
  expect(readFileSync(at('out.raw')).equals(Buffer.alloc(MIB, 5))).toBe(true);
  const whole = await runCli(['info', at('a.tar'), '--partition', '1']);
  // Behind the member is no header.
  expect([whole.status, whole.stderr]).toEqual([1, expect.stringContaining('wrong checksum')]);
});

it('a stored parent of no recorded format is not taken for a raw disk', async () => {
  writeFileSync(at('base'), new Uint8Array(MIB));
  await runCli(['create', at('child.qcow2'), '--parent', at('base'), '--parent-format', 'raw']);
  // As an image has it that does not record the format: the extension has another number.
  const bytes = readFileSync(at('child.qcow2'));
  const extension = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
  bytes.writeUInt32BE(0x1234_5678, extension);
  writeFileSync(at('child.qcow2'), bytes);
  expect((await runCli(['convert', at('child.qcow2'), at('out.raw')])).status).toBe(0);
  writeFileSync(at('base'), Buffer.concat([Buffer.from([0x1f, 0x8b, 8, 0]), Buffer.alloc(MIB - 4)]));
  const refused = await runCli(['convert', at('child.qcow2'), at('other.raw')]);
  expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining('gzip')]);
});
