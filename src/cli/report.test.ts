import { expect, it } from 'vitest';
import type { ImageReport } from '../disk/options.ts';
import { plainInfo } from '../image/plain-info.ts';
import { reportDocument, reportText } from './report.ts';

const REPORT: ImageReport = {
  ...plainInfo({ format: 'toy', virtualSize: 512, blockSize: null }),
  ...{
    file: 'a',
    fileSize: 512,
    allocatedSize: null,
    recognisedBy: 'its name',
    guessed: false,
    parts: [],
    wrappings: [],
  },
  lock: { held: null, holders: [] },
};

it('prints encryption and further facts of a format, escaped', () => {
  const facts = {
    encryption: 'aes-xts-plain64',
    details: { 'grain directories': 2, adapter: 'lsi\u001b', lazy: true },
  };
  const text = reportText({ ...REPORT, ...facts });
  expect(text).toMatch(/^encryption: +aes-xts-plain64$/m);
  expect(text).toMatch(/^grain directories: +2$/m);
  expect(text).toMatch(/^lazy: +yes$/m);
  expect(text).not.toContain('\u001b');
  expect(reportDocument({ ...REPORT, ...facts })).toMatchObject({ ...facts, allocation: 'dynamic' });
  expect(reportDocument(REPORT)).toMatchObject({ encryption: null, details: null });
});
