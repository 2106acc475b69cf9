/** The suites of `vdkit/testing` over the example's format, with the test runner of Node: `node --test boxes-suite.mjs`. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { defaultRegistry, Plugins } from 'vdkit';
import { conformanceCases, formatCrashSuite, runCrashSuite } from 'vdkit/testing';
import * as plugin from './VDPluginBoxes.mjs';

const registry = defaultRegistry();
await new Plugins(registry).add('VDPluginBoxes.mjs', plugin);

describe('boxes', () => {
  for (const { way, title, run } of conformanceCases({ registry, format: 'boxes' })) it(`${way}: ${title}`, run);

  it('keeps its promise through any power cut', async () => {
    const suite = formatCrashSuite({ registry, format: 'boxes', size: 8 * 64 * 1024 + 512, unit: 128 });
    const report = await runCrashSuite(suite, { maxStates: 500 });
    assert.deepEqual(report.violations, []);
    assert.ok(report.distinct > 100);
  });
});
