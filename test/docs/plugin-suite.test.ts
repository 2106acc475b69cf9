/** The example of a plugin passes the suites for authors, as an author runs them; a broken one does not. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import * as example from '../../examples/VDPluginBoxes.mjs';
import { ROOT } from '../../scripts/prepare.mjs';
import { defaultRegistry } from '../../src/formats/index.ts';
import type { Format, Image } from '../../src/image/contract.ts';
import type { Registry } from '../../src/image/registry.ts';
import { Plugins } from '../../src/plugin/plugins.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { conformanceCases, formatCrashSuite, runCrashSuite } from '../../src/testing/index.ts';
import { overriding, registryWith } from '../../src/testing/overriding.ts';
import { testProblem } from './named-test.ts';

const run = promisify(execFile);

async function boxes(): Promise<Format> {
  const registry = defaultRegistry();
  await new Plugins(registry, new MemoryProvider()).add('VDPluginBoxes.mjs', example);
  return registry.find('boxes');
}

/** A registry of boxes some members of which are others. */
async function broken(own: (image: Image) => Partial<Image>): Promise<Registry> {
  return registryWith([await boxes()], (image) => overriding(image, own(image)));
}

async function failuresOf(registry: Registry): Promise<string[]> {
  const failed: string[] = [];
  for (const { title, run: runCase } of conformanceCases({ registry, format: 'boxes' })) {
    await runCase().catch(() => failed.push(title));
  }
  return failed;
}

describe('suites for authors of plugins', () => {
  it('pass over the example, in the test runner of Node', async () => {
    const { stdout } = await run(process.execPath, ['--test', join(ROOT, 'examples/boxes-suite.mjs')], { cwd: ROOT });
    expect(stdout).toMatch(/^# fail 0$/m);
    expect(Number(/^# pass (\d+)$/m.exec(stdout)?.[1])).toBeGreaterThan(13);
  });

  it('find a format that stores nothing', async () => {
    const registry = await broken(() => ({ seal: () => ({ stage: [], root: [], publish: [] }) }));
    expect(await failuresOf(registry)).toContain('reads what was written, at once and after opening again');
  });

  it('find a format whose map is written before its data', async () => {
    const registry = await broken((image) => ({
      seal: () => {
        const { stage, root, publish } = image.seal();
        return { stage: [...stage, ...publish.flat()], root, publish: [] };
      },
    }));
    const options = { registry, format: 'boxes', size: 8 * 64 * 1024 + 512, unit: 128 };
    const report = await runCrashSuite(formatCrashSuite(options), { maxStates: 200, stopAfter: 1 });
    expect(report.violations).not.toEqual([]);
  });

  it('are named by the guide of the API', () => {
    expect(testProblem('`src/testing/conformance-cases.ts`: is recognised by its content')).toBe(null);
    expect(testProblem('`src/testing/conformance-cases.ts`: is not a promise')).not.toBe(null);
  });
});
