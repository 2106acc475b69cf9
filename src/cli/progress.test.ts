import { describe, expect, it } from 'vitest';
import { barLine, etaSeconds, formatDuration, ProgressReporter, RateMeter } from './progress.ts';

const MIB = 2 ** 20;

/** A reporter on a clock that only moves when told. */
function reporterOn(style: 'bar' | 'json' | 'none') {
  const written: string[] = [];
  const clock = { ms: 0 };
  const reporter = new ProgressReporter({ style, write: (text) => written.push(text), now: () => clock.ms });
  return { reporter, written, clock };
}

describe('RateMeter', () => {
  it('says nothing before it can', () => {
    expect(new RateMeter(0).update(10, 5 * MIB)).toBeNull();
  });

  it('finds a steady rate', () => {
    const meter = new RateMeter(0);
    let rate: number | null = null;
    for (let second = 1; second <= 10; second++) rate = meter.update(second * 1000, second * MIB);
    expect(rate).toBeCloseTo(MIB, 3);
  });

  it('smooths a jump: half of it after three seconds', () => {
    const meter = new RateMeter(0);
    meter.update(1000, 100);
    expect(meter.update(4000, 100)).toBeCloseTo(50, 6);
  });

  it('does not count what was done before it began', () => {
    expect(new RateMeter(0, 900).update(1000, 1000)).toBe(100);
  });
});

describe('ProgressReporter', () => {
  it('writes JSON lines that never fall and end at the total', () => {
    const { reporter, written, clock } = reporterOn('json');
    for (const done of [0, 10, 5, 40, 70]) {
      clock.ms += 300;
      reporter.report?.({ operation: 'convert', done, total: 100 });
    }
    reporter.finish(true);
    const lines = written.map((text) => JSON.parse(text));
    expect(lines.map(({ done }) => done)).toEqual([0, 10, 10, 40, 70, 100]);
    expect(Object.keys(lines[0])).toEqual(['operation', 'done', 'total', 'bytesPerSecond', 'etaSeconds']);
    expect(lines[0]).toMatchObject({ operation: 'convert', bytesPerSecond: null, etaSeconds: null });
    expect(lines[3].bytesPerSecond).toBeGreaterThan(0);
    expect(lines.at(-1).etaSeconds).toBe(0);
  });

  it('takes rate and time left from data, not from holes', () => {
    const { reporter, written, clock } = reporterOn('json');
    const report = (done: number, data: { done: number; total: number | null }) =>
      reporter.report?.({ operation: 'convert', done: done * MIB, total: 1000 * MIB, data });
    report(0, { done: 0, total: null });
    clock.ms += 1000;
    report(900, { done: MIB, total: null }); // 899 MiB of it are a hole
    clock.ms += 1000;
    report(902, { done: 2 * MIB, total: 4 * MIB });
    reporter.finish(true);
    const lines = written.map((text) => JSON.parse(text));
    expect(lines[1]).toMatchObject({ bytesPerSecond: MIB, etaSeconds: null });
    expect(lines[2]).toMatchObject({ done: 902 * MIB, bytesPerSecond: MIB, etaSeconds: 2 });
    expect(lines[3]).toMatchObject({ done: 1000 * MIB, etaSeconds: 0 });
  });

  it('has nothing to report to when nothing is shown', () => {
    expect(reporterOn('none').reporter.report).toBeUndefined();
  });

  it('does not claim the end after a failure', () => {
    const { reporter, written } = reporterOn('json');
    reporter.report?.({ operation: 'convert', done: 10, total: 100 });
    reporter.finish(false);
    expect(written.map((text) => JSON.parse(text).done)).toEqual([10]);
  });

  it('starts again with another operation', () => {
    const { reporter, written } = reporterOn('json');
    reporter.report?.({ operation: 'read', done: 50, total: null });
    reporter.report?.({ operation: 'convert', done: 10, total: 100 });
    reporter.finish(true);
    const lines = written.map((text) => JSON.parse(text));
    expect(lines.map(({ operation, done }) => [operation, done])).toEqual([
      ['read', 50],
      ['read', 50],
      ['convert', 10],
      ['convert', 100],
    ]);
    expect(lines[0].etaSeconds).toBeNull();
  });

  it('draws no more often than it can be seen, and takes the bar away', () => {
    const { reporter, written, clock } = reporterOn('bar');
    for (let done = 0; done < 1000; done++) {
      clock.ms += 1;
      reporter.report?.({ operation: 'convert', done, total: 1000 });
    }
    expect(written.length).toBeGreaterThan(5);
    expect(written.length).toBeLessThanOrEqual(11);
    reporter.finish(true);
    expect(written.at(-1)).toBe('\r\u001b[K');
    reporter.clear();
    expect(written.filter((text) => text === '\r\u001b[K')).toHaveLength(1);
  });

  it('is silent when nothing is shown', () => {
    const { reporter, written } = reporterOn('none');
    reporter.report?.({ operation: 'convert', done: 1, total: 2 });
    reporter.finish(true);
    expect(written).toEqual([]);
  });
});

describe('the bar', () => {
  it.each([20, 40, 60, 80, 200])('fits into %d columns', (columns) => {
    for (const done of [0, 1, 500, 1000, 2000]) {
      const line = barLine({ operation: 'convert', done: done * MIB, total: 1000 * MIB }, 123 * MIB, columns);
      expect(line.length).toBeLessThan(columns);
    }
  });

  it('shows part, amounts, speed and the time left', () => {
    const line = barLine({ operation: 'convert', done: 25 * MIB, total: 100 * MIB }, MIB, 100);
    expect(line).toContain('25%  25 MiB of 100 MiB  1 MiB/s  1:15 left');
    expect(line).toMatch(/\[#+\.+\]/);
  });

  it('does without a total', () => {
    expect(barLine({ operation: 'read', done: MIB, total: null }, null, 80)).toBe('read  1 MiB');
  });

  it('knows no time left without a rate', () => {
    expect(etaSeconds({ operation: 'x', done: 1, total: 2 }, 0)).toBeNull();
    expect(etaSeconds({ operation: 'x', done: 1, total: null }, 5)).toBeNull();
    expect(etaSeconds({ operation: 'x', done: 1, total: 11 }, 5)).toBe(2);
  });

  it.each([
    [0, '0:00'],
    [59.2, '1:00'],
    [754, '12:34'],
    [10_800, '3:00:00'],
  ])('%d seconds are %s', (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });
});
