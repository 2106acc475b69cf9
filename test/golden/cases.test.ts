/**
 * Inputs that broke other programs, rebuilt from public reports: `cases/` in a golden folder. Each gives the right disk,
 * or an error of one of the kinds that its manifest lists, on the command line.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCli } from '../cli/run-cli.ts';
import { KITS } from '../conformance/kits.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** One case. */
interface ReportedCase {
  readonly id: string;
  /** The file to open, and all files beside it. */
  readonly entry: string;
  readonly files: readonly string[];
  readonly tests: string;
  readonly expect: { readonly virtualSize: number; readonly sha256: string } | { readonly kinds: readonly string[] };
}

const FOLDERS = KITS.flatMap(({ format, golden }) => {
  const name = 'without' in golden ? golden.cases : golden.folder;
  const folder = join(HERE, name ?? '', 'cases');
  return name === undefined || !existsSync(folder) ? [] : [{ format, folder, cases: casesIn(folder) }];
});

describe.each(FOLDERS)('$format', ({ folder, cases }) => {
  let work = '';
  beforeEach(async () => {
    work = await mkdtemp(join(tmpdir(), 'vdkit-cases-'));
  });
  afterEach(() => rm(work, { recursive: true, force: true }));

  it.each(cases)('$id: $tests', async ({ id, entry, files, expect: wanted }) => {
    for (const file of files) {
      await mkdir(dirname(join(work, file)), { recursive: true });
      await writeFile(join(work, file), gunzipSync(readFileSync(join(folder, id, `${file}.gz`))));
    }
    const raw = join(work, 'as.raw');
    const { status, stdout, stderr } = await runCli(['convert', join(work, entry), raw, '--to', 'raw', '--json']);
    if ('kinds' in wanted) {
      expect(status, stderr).not.toBe(0);
      expect(wanted.kinds).toContain(JSON.parse(stdout).error.kind);
      return;
    }
    expect(status, stderr).toBe(0);
    const bytes = await readFile(raw);
    expect(bytes.length).toBe(wanted.virtualSize);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(wanted.sha256);
  });
});

function casesIn(folder: string): readonly ReportedCase[] {
  return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
}
