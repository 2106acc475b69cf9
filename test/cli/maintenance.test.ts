/** check, compact, resize, set, rename, delete and measure: what they print, change and leave alone. */
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { HEADER } from '../../src/formats/vdi/layout.ts';
import { Disk } from '../../src/index.ts';
import { type Outcome, type RunOptions, runCli } from './run-cli.ts';

const SAMPLE = fileURLToPath(new URL('../../samples/disk.vdi', import.meta.url));
const MIB = 2 ** 20;
const UUID = '01234567-89ab-4def-8123-456789abcdef';

let folder: string;
const at = (name: string): string => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'vdkit-maintain-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

function golden(name: string): string {
  const stored = fileURLToPath(new URL(`../golden/vdi/${name}.vdi.gz`, import.meta.url));
  writeFileSync(at(`${name}.vdi`), gunzipSync(readFileSync(stored)));
  return at(`${name}.vdi`);
}

/** Runs a command that must end with this status and print no error. */
async function run(status: number, ...words: string[]): Promise<Outcome> {
  const outcome = await runCli(words);
  expect({ status: outcome.status, error: /error:.*/.exec(outcome.stderr)?.[0] }).toEqual({ status });
  return outcome;
}

const ok = async (...words: string[]): Promise<string> => (await run(0, ...words)).stdout;
const json = async (...words: string[]): Promise<Record<string, unknown>> => JSON.parse(await ok(...words, '--json'));
const info = (name: string): Promise<Record<string, unknown>> => json('info', name);

/** A disk of stored blocks, every second one of zeroes. */
async function makeHalfZero(name: string, blocks: number): Promise<void> {
  const bytes = new Uint8Array(blocks * MIB);
  for (let block = 0; block < blocks; block += 2) bytes.fill(block + 1, block * MIB, (block + 1) * MIB);
  writeFileSync(at('half.raw'), bytes);
  await ok('convert', at('half.raw'), at(name), '--variant', 'fixed', '--quiet');
  // Of a fixed image only the type tells it from a dynamic one with every block in its place.
  const file = readFileSync(at(name));
  HEADER.put(file.subarray(0, 512), 'type', 1);
  writeFileSync(at(name), file);
}

/** Interrupts at the first sign of progress. */
function interrupting(): RunOptions {
  let interrupt = (): void => {};
  return {
    onStart: (stop) => {
      interrupt = stop;
    },
    onStderr: (text) => {
      if (text.startsWith('{')) interrupt();
    },
  };
}

describe('check', () => {
  it('ends with 0 for a sound image and prints the documented keys', async () => {
    expect(await ok('check', SAMPLE)).toBe(`${SAMPLE}: no errors found.\n`);
    const report = await json('check', SAMPLE);
    expect(Object.keys(report)).toEqual(['schema', 'clean', 'findings', 'repaired', 'file', 'format', 'repairs']);
    expect(report).toMatchObject({ schema: 'vdkit/check/1', clean: true, findings: [], repaired: false, repairs: [] });
    expect((await run(0, 'check', SAMPLE, '--quiet')).stdout).toBe('');
  });

  it('ends with 2 for corruption, and says where it is', async () => {
    const image = golden('vdi-damaged-double');
    const { stdout } = await run(2, 'check', image);
    expect(stdout).toMatch(/^corruption: shared-block: Block 8 .*\(offset 0x100020, guest offset 0x800000\)$/m);
    expect(stdout).toMatch(/: 1 corruption.*\.\n$/);
    const report = JSON.parse((await run(2, 'check', image, '--json')).stdout);
    expect(Object.keys(report.findings[0])).toEqual([
      'severity',
      'code',
      'message',
      'fileOffset',
      'guestOffset',
      'repairable',
    ]);
    expect(report).toMatchObject({ clean: false, repaired: false, repairs: [] });
    const hopeless = await run(2, 'check', golden('vdi-damaged-signature'));
    expect(hopeless.stdout).toContain('corruption: header: ');
  });

  it('ends with 3 for leaked space only', async () => {
    const { stdout } = await run(3, 'check', golden('vdi-repaired-double'));
    expect(stdout).toMatch(/^leak: unused-slots: /);
    expect(stdout).toMatch(/: 1 leak\.\n$/);
  });

  it('ends with 63 for what has no check, and with 1 when it fails', async () => {
    writeFileSync(at('disk.raw'), new Uint8Array(4096));
    expect(await runCli(['check', at('disk.raw')])).toMatchObject({ status: 63, stdout: '' });
    const document = await runCli(['check', at('disk.raw'), '--json']);
    expect(document.status).toBe(63);
    expect(JSON.parse(document.stdout).error.kind).toBe('unsupported');
    expect(await runCli(['check', at('missing.vdi')])).toMatchObject({ status: 1 });
  });

  it('repairs after saying what, and ends with what is left', async () => {
    const image = golden('vdi-damaged-multi');
    const { stdout } = await run(3, 'check', image, '--repair');
    const [plan = '', done = ''] = stdout.split('repairing now.\n');
    expect(plan.match(/; will be repaired$/gm)).toHaveLength(3);
    expect(done).toMatch(/^leak: unused-slots: /);
    expect(done).toContain('repaired; remaining: 1 leak.');
    await run(3, 'check', image);
    await ok('compare', image, golden('vdi-repaired-multi'));
    // Compacting gives the leaked space back.
    await ok('compact', image);
    await ok('check', image);
  });

  it('says when a repair can do nothing, and changes nothing', async () => {
    const image = at('disk.qcow2');
    await ok('create', image, '8M', '--option', 'cluster_size=4096');
    const bytes = readFileSync(image);
    // The L1 table claims to be longer than the file: nothing may be taken for unused.
    bytes.writeUInt32BE(0x3f_ffff, 36);
    writeFileSync(image, bytes);
    for (const _ of ['once', 'twice']) {
      const { stdout } = await run(2, 'check', image, '--repair');
      expect(stdout).toContain('1 corruption; none can be repaired, so nothing was changed.');
      expect(readFileSync(image).equals(bytes)).toBe(true);
    }
    const report = JSON.parse((await run(2, 'check', image, '--repair', '--json')).stdout);
    expect(report).toMatchObject({ repaired: false, repairs: [] });
  });

  it('says in JSON what was repaired', async () => {
    const image = golden('vdi-damaged-range');
    const report = JSON.parse((await run(0, 'check', image, '--repair', '--json')).stdout);
    expect(report).toMatchObject({ clean: true, repaired: true, findings: [] });
    expect(report.repairs.map(({ code }: { code: string }) => code)).toContain('block-beyond-file');
  });

  it('changes no byte with --dry-run', async () => {
    const image = golden('vdi-damaged-multi');
    const before = readFileSync(image);
    const { stdout } = await run(2, 'check', image, '--repair', '--dry-run');
    expect(stdout.match(/; would be repaired$/gm)).toHaveLength(3);
    const report = JSON.parse((await run(2, 'check', image, '--repair', '--dry-run', '--json')).stdout);
    expect(report).toMatchObject({ repaired: false, repairs: { length: 3 } });
    expect(readFileSync(image).equals(before)).toBe(true);
  });
});

describe.each(['vdi', 'vmdk'])('a %s parent that changed since', (format) => {
  it('is named by info, with and without the chain, and by check', async () => {
    const [base, kid] = [at(`base.${format}`), at(`kid.${format}`)];
    await ok('create', base, '4M');
    await ok('create', kid, '--parent', base);
    for (const command of ['info', 'check']) expect((await run(0, command, kid)).stderr).toBe('');
    await using disk = await Disk.open(base, { mode: 'write' });
    await disk.write(0, new Uint8Array(512).fill(1));
    await disk.close();
    for (const words of [[], ['--backing-chain'], ['--json']]) {
      expect((await run(0, 'info', kid, ...words)).stderr).toMatch(/base\.\w+ was modified after \S*kid\./);
    }
    expect((await run(0, 'info', kid, '--allow', 'none')).stderr).toBe('');
    expect(await ok('check', kid)).toMatch(/warning: parent-changed: .*\n.*1 warning\./);
    expect(await json('check', kid)).toMatchObject({ clean: true, findings: [{ code: 'parent-changed' }] });
    expect(await ok('check', base)).toContain('no errors found');
  });
});

describe('merge', () => {
  /** A base and two differencing images, each with a private block. */
  async function makeChain(): Promise<void> {
    await ok('create', at('0.vdi'), '8M');
    for (const number of [0, 1, 2]) {
      if (number > 0) await ok('create', at(`${number}.vdi`), '--parent', at(`${number - 1}.vdi`));
      await using disk = await Disk.open(at(`${number}.vdi`), { mode: 'write', allow: ['same-directory'] });
      await disk.write(number * MIB, new Uint8Array(2 * MIB).fill(number + 1));
    }
    await ok('convert', at('2.vdi'), at('flat.raw'));
  }
  const names = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.vdi'));

  it('puts the last image into its parent when nothing else is said', async () => {
    await makeChain();
    const { stderr } = await run(0, 'merge', at('2.vdi'));
    expect(stderr).toBe(`${at('2.vdi')} merged into ${at('1.vdi')}; their files were deleted\n`);
    expect(names()).toEqual(['0.vdi', '1.vdi']);
    await run(0, 'compare', at('1.vdi'), at('flat.raw'));
    await run(0, 'check', at('1.vdi'));
  });

  it('moves a base and more into the last image', async () => {
    await makeChain();
    const report = await json('merge', at('2.vdi'), '--from', '0', '--to-image', 'last');
    const removed = [at('0.vdi'), at('1.vdi')];
    expect(report).toEqual({ schema: 'vdkit/merge/1', from: 0, to: 2, file: at('2.vdi'), removed, dryRun: false });
    expect(names()).toEqual(['2.vdi']);
    expect(await info(at('2.vdi'))).toMatchObject({ parentUuid: null, variant: ['dynamic'] });
    await run(0, 'compare', at('2.vdi'), at('flat.raw'));
  });

  it('says what it would do, keeps files, and refuses to take the ground from under others', async () => {
    await makeChain();
    const before = names().map((name) => readFileSync(at(name)).toString('base64'));
    expect((await run(0, 'merge', at('2.vdi'), '--dry-run')).stderr).toContain('would be merged');
    expect(names().map((name) => readFileSync(at(name)).toString('base64'))).toEqual(before);
    await ok('create', at('other.vdi'), '--parent', at('1.vdi'));
    const refused = await runCli(['merge', at('2.vdi')]);
    expect(refused.stderr).toMatch(/other\.vdi.* depends on it.*\nhint: .*--force/);
    expect(refused.stderr).not.toContain('undefined');
    await ok('merge', at('2.vdi'), '--force', '--keep', '--quiet');
    expect(names()).toEqual(['0.vdi', '1.vdi', '2.vdi', 'other.vdi']);
    await run(0, 'compare', at('1.vdi'), at('flat.raw'));
  });

  it('copies a chain image by image', async () => {
    await makeChain();
    mkdirSync(at('there'));
    const { images } = (await json('copy', at('2.vdi'), at('there'), '--verify')) as { images: { to: string }[] };
    expect(images.map(({ to }) => to)).toEqual(['0.vdi', '1.vdi', '2.vdi'].map((name) => at(`there/${name}`)));
    for (const name of ['0.vdi', '1.vdi', '2.vdi']) {
      await run(0, 'compare', at(name), at(`there/${name}`));
      await run(0, 'check', at(`there/${name}`));
      expect(statSync(at(`there/${name}`)).size).toBeLessThanOrEqual(statSync(at(name)).size);
      const [from, to] = [await info(at(name)), await info(at(`there/${name}`))];
      expect(to['modificationUuid']).toBe(from['modificationUuid']);
      expect(to['uuid']).not.toBe(from['uuid']);
    }
    expect((await run(0, 'info', at('there/2.vdi'), '--backing-chain')).stderr).toBe('');
    expect((await runCli(['copy', at('2.vdi'), at('there')])).status).toBe(1);
    expect(readdirSync(at('there')).sort()).toEqual(['0.vdi', '1.vdi', '2.vdi']);
  });

  it('moves an image by name, and by content where the name is not enough', async () => {
    await ok('convert', SAMPLE, at('a.vdi'));
    const before = await info(at('a.vdi'));
    await ok('copy', at('a.vdi'), at('b.vdi'), '--move');
    expect(names()).toEqual(['b.vdi']);
    expect(await info(at('b.vdi'))).toMatchObject({
      uuid: before['uuid'],
      modificationUuid: before['modificationUuid'],
    });
    await ok('copy', at('b.vdi'), at('c.raw'), '--to', 'raw', '--move');
    expect(readdirSync(folder)).toEqual(['c.raw']);
    await run(0, 'compare', at('c.raw'), SAMPLE);
  });

  it('takes a chain that is stored nowhere', async () => {
    await ok('create', at('base.raw'), '4M');
    await ok('create', at('over.vdi'), '--parent', at('base.raw'), '--parent-format', 'raw', '--quiet');
    writeFileSync(at('base.raw'), new Uint8Array(4 * MIB).fill(7));
    const map = await json('map', at('over.vdi'), '--chain', at('base.raw'));
    expect(map['extents']).toMatchObject([{ offset: 0, length: 4 * MIB, state: 'data', image: 0, depth: 1 }]);
  });
});

describe('compact', () => {
  it('gives zero blocks back, reads as before, and says both sizes', async () => {
    await makeHalfZero('disk.vdi', 8);
    const before = statSync(at('disk.vdi')).size;
    const result = await json('compact', at('disk.vdi'));
    expect(Object.keys(result)).toEqual(['schema', 'file', 'fileSizeBefore', 'fileSize']);
    expect(result).toMatchObject({ schema: 'vdkit/compact/1', fileSizeBefore: before, fileSize: before - 4 * MIB });
    expect(statSync(at('disk.vdi')).size).toBe(before - 4 * MIB);
    await ok('compare', at('half.raw'), at('disk.vdi'));
    await ok('check', at('disk.vdi'));
  });

  it('shows progress', async () => {
    await makeHalfZero('disk.vdi', 8);
    const { stderr } = await run(0, 'compact', at('disk.vdi'), '--progress', 'json');
    const lines = stderr.split('\n').filter((line) => line.startsWith('{'));
    expect(lines.map((line) => JSON.parse(line))).toContainEqual(
      expect.objectContaining({ operation: 'compact', done: 8 * MIB, total: 8 * MIB }),
    );
  });

  it('leaves a whole image after Ctrl-C, and goes on when run again', async () => {
    await makeHalfZero('disk.vdi', 16);
    const outcome = await runCli(['compact', at('disk.vdi'), '--progress', 'json'], interrupting());
    expect(outcome.status).toBe(130);
    expect(outcome.stderr).toMatch(
      /^cancelled; .*disk\.vdi is intact and reads as before; run the command again to continue$/m,
    );
    await ok('compare', at('half.raw'), at('disk.vdi'));
    await ok('check', at('disk.vdi'));
    const { fileSize } = await json('compact', at('disk.vdi'));
    expect(fileSize).toBe((await json('measure', at('disk.vdi'), '--to', 'vdi'))['required']);
  });

  it('does not warn of images that name it as their parent, since they read the same', async () => {
    await ok('create', at('base.vdi'), '8M');
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    expect((await run(0, 'compact', at('base.vdi'))).stderr).not.toContain('warning');
    expect((await run(0, 'map', at('diff.vdi'))).stderr).toBe('');
  });
});

describe('resize', () => {
  it.each([
    ['24M', 24],
    ['+4M', 20],
    ['-4M', 12],
    ['+0', 16],
  ])('by %s', async (size, mebibytes) => {
    await ok('create', at('disk.vdi'), '16M');
    const result = await json('resize', at('disk.vdi'), size);
    expect(result).toEqual({
      schema: 'vdkit/resize/1',
      file: at('disk.vdi'),
      virtualSizeBefore: 16 * MIB,
      virtualSize: mebibytes * MIB,
    });
    expect((await info(at('disk.vdi')))['virtualSize']).toBe(mebibytes * MIB);
    await ok('check', at('disk.vdi'));
  });

  it('keeps what was there, and adds zeroes', async () => {
    copyFileSync(SAMPLE, at('disk.vdi'));
    await ok('resize', at('disk.vdi'), '300G', '--progress', 'json');
    await ok('compare', SAMPLE, at('disk.vdi'));
    await ok('check', at('disk.vdi'));
  });

  it('cuts data off only with --shrink', async () => {
    await makeHalfZero('disk.vdi', 8);
    const before = readFileSync(at('disk.vdi'));
    const refused = await runCli(['resize', at('disk.vdi'), '-4M']);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toContain('--shrink');
    await ok('compare', at('half.raw'), at('disk.vdi'));
    expect((await info(at('disk.vdi')))['virtualSize']).toBe(8 * MIB);
    expect(readFileSync(at('disk.vdi')).length).toBe(before.length);
    await ok('resize', '--shrink', at('disk.vdi'), '-4M');
    writeFileSync(at('half.raw'), readFileSync(at('half.raw')).subarray(0, 4 * MIB));
    await ok('compare', '--strict', at('half.raw'), at('disk.vdi'));
  });

  it('says after Ctrl-C which size the disk has', async () => {
    await ok('create', at('disk.vdi'), '16M');
    const outcome = await runCli(['resize', at('disk.vdi'), '1G'], { onStart: (interrupt) => interrupt() });
    expect(outcome.status).toBe(130);
    expect((await info(at('disk.vdi')))['virtualSize']).toBe(16 * MIB);
    await ok('check', at('disk.vdi'));
  });
});

describe('set', () => {
  it('changes what it is told, and reports on the image as it is then', async () => {
    await ok('create', at('disk.vdi'), '16M', '--comment', 'old');
    const words = ['--comment', 'new', '--uuid', UUID, '--geometry', '30/16/63', '--logical-geometry', '2/255/63'];
    const report = await json('set', at('disk.vdi'), ...words);
    expect(Object.keys(report).slice(0, 3)).toEqual(['schema', 'file', 'format']);
    expect(report).toMatchObject({
      schema: 'vdkit/set/1',
      comment: 'new',
      uuid: UUID,
      geometry: {
        physical: { cylinders: 30, heads: 16, sectors: 63 },
        logical: { cylinders: 2, heads: 255, sectors: 63 },
      },
      warnings: [],
    });
    expect(await ok('set', at('disk.vdi'), '--comment', '')).not.toContain('comment');
    const cleared = await json('set', at('disk.vdi'), '--logical-geometry', 'none', '--uuid', 'null');
    expect(cleared).toMatchObject({ comment: null, uuid: null, geometry: { logical: null } });
  });

  it('takes random and null for identities', async () => {
    await ok('create', at('disk.vdi'), '16M', '--uuid', UUID);
    const report = await json('set', at('disk.vdi'), '--uuid', 'random', '--modification-uuid', UUID);
    expect(report['uuid']).not.toBe(UUID);
    expect(report['modificationUuid']).toBe(UUID);
    expect((await run(0, 'set', at('disk.vdi'), '--uuid', 'null')).stderr).toMatch(/^warning: Without a UUID/m);
  });

  it('makes a base of an image that does not say what its parent is, and that nothing else opens unasked', async () => {
    writeFileSync(at('base.raw'), new Uint8Array(MIB).fill(5));
    await ok('create', at('over.vdi'), '--parent', at('base.raw'), '--parent-format', 'raw', '--quiet');
    const refused = await runCli(['convert', at('over.vdi'), at('out.raw')]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/does not identify its parent\nhint: .*--source-parent\).*set --parent none/);
    await ok('convert', at('over.vdi'), at('out.raw'), '--source-parent', at('base.raw'));
    expect(readFileSync(at('out.raw'))[0]).toBe(5);
    const { stderr } = await run(0, 'convert', at('over.vdi'), at('none.raw'), '--source-parent', 'none');
    expect(stderr).toMatch(/^warning: .*is read without its parent/m);
    expect(readFileSync(at('none.raw'))[0]).toBe(0);
    expect((await runCli(['resize', at('over.vdi'), '+1M', '--parent', 'none'])).status).toBe(1);
    expect(await json('set', at('over.vdi'), '--parent', 'none')).toMatchObject({ variant: ['dynamic'] });
    await ok('resize', at('over.vdi'), '+1M');
  });

  it('links an image to a parent, and cuts the link', async () => {
    copyFileSync(SAMPLE, at('base.vdi'));
    await ok('set', at('base.vdi'), '--uuid', UUID);
    await ok('create', at('diff.vdi'), String((await info(SAMPLE))['virtualSize']));
    const linked = await json('set', at('diff.vdi'), '--parent', at('base.vdi'));
    expect(linked).toMatchObject({ parentUuid: UUID, variant: ['diff'] });
    await ok('compare', SAMPLE, at('diff.vdi'));
    const warned = await run(0, 'set', at('base.vdi'), '--uuid', 'random');
    expect(warned.stderr).toMatch(/^warning: .*diff\.vdi depends on .*base\.vdi/m);
    const cut = await json('set', at('diff.vdi'), '--parent-uuid', 'null', '--parent-modification-uuid', 'null');
    expect(cut).toMatchObject({ parentUuid: null, parentModificationUuid: null, variant: ['dynamic'] });
  });
});

describe('rename and delete', () => {
  it('rename', async () => {
    copyFileSync(SAMPLE, at('disk.vdi'));
    const result = await json('rename', at('disk.vdi'), at('new.vdi'));
    expect(result).toEqual({
      schema: 'vdkit/rename/1',
      source: at('disk.vdi'),
      target: at('new.vdi'),
      warnings: [],
    });
    expect(readdirSync(folder)).toEqual(['new.vdi']);
    expect(readFileSync(at('new.vdi')).equals(readFileSync(SAMPLE))).toBe(true);
  });

  it('delete', async () => {
    copyFileSync(SAMPLE, at('disk.vdi'));
    writeFileSync(at('disk.raw'), new Uint8Array(512));
    expect(await json('delete', at('disk.vdi'))).toEqual({
      schema: 'vdkit/delete/1',
      removed: [at('disk.vdi')],
      warnings: [],
    });
    await ok('delete', at('disk.raw'), '--format', 'raw');
    expect(readdirSync(folder)).toEqual([]);
  });

  it.each([
    ['rename', ['base.vdi', 'new.vdi'], ['diff.vdi', 'new.vdi']],
    ['delete', ['base.vdi'], ['diff.vdi']],
  ])('%s refuses a parent unless --force', async (command, names, left) => {
    await ok('create', at('base.vdi'), '8M');
    await ok('create', at('diff.vdi'), '--parent', at('base.vdi'));
    const refused = await runCli([command, ...names.map(at)]);
    expect(refused.status).toBe(1);
    expect(refused.stderr).toMatch(/diff\.vdi.*\nhint: .*--force/);
    expect(readdirSync(folder).sort()).toEqual(['base.vdi', 'diff.vdi']);
    const forced = await run(0, command, ...names.map(at), '--force');
    expect(forced.stderr).toMatch(/^warning: .*diff\.vdi (finds its parent|names) .*base\.vdi/m);
    expect(readdirSync(folder).sort()).toEqual(left);
  });
});

describe('measure', () => {
  it('says what convert makes', async () => {
    const result = await json('measure', SAMPLE, '--to', 'vdi');
    expect(Object.keys(result)).toEqual(['schema', 'required', 'fullyAllocated', 'format', 'virtualSize']);
    await ok('convert', SAMPLE, at('copy.vdi'));
    const { size } = statSync(at('copy.vdi'));
    expect(result).toMatchObject({ schema: 'vdkit/measure/1', format: 'vdi', required: size });
    await ok('convert', SAMPLE, at('fixed.vdi'), '--variant', 'fixed');
    expect(result['fullyAllocated']).toBe(statSync(at('fixed.vdi')).size);
  });

  it('takes a size, variants and keys', async () => {
    const words = ['--to', 'vdi', '--block-size', '64K', '--option', 'DataAlignment=4K'];
    const { required } = await json('measure', '--size', '10M', ...words);
    await ok('create', at('disk.vdi'), '10M', ...words);
    expect(required).toBe(statSync(at('disk.vdi')).size);
    expect(await ok('measure', '--size', '10M', '--to', 'raw', '--variant', 'fixed')).toBe(
      'required:         10 MiB (10485760 bytes)\nfully allocated:  10 MiB (10485760 bytes)\n',
    );
    expect(await ok('measure', '--variant', 'help', '--to', 'vdi')).toMatch(/^vdi:\n/);
  });
});
