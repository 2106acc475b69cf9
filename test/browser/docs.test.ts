/** The built package in a page, with the sample as the chosen file: the examples of docs/browser.md, and queues. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureBuilt, ROOT } from '../../scripts/prepare.mjs';
import { Disk } from '../../src/index.ts';
import { BlobProvider } from '../../src/storage/blob-provider.ts';
import { Workplace } from '../docs/workplace.ts';
import { describeWithPeers } from '../peers/peers.ts';
import { bundleForPage } from './bundle.ts';
import { type Browser, callInPage, startChromium } from './chromium.ts';

const SAMPLE = join(ROOT, 'samples/disk.vdi');
/** Guest content of the sample, as its README has it. */
const SAMPLE_SHA256 = /SHA-256 \| `([0-9a-f]{64})`/.exec(readFileSync(join(ROOT, 'samples/README.md'), 'utf8'))?.[1];
const PAGE = readFileSync(join(ROOT, 'docs/browser.md'), 'utf8');

/** The first code block below a heading. */
function blockBelow(heading: string, language: string): string {
  const from = heading === '' ? 0 : PAGE.indexOf(`## ${heading}`);
  expect(from, `"${heading}" is in docs/browser.md`).toBeGreaterThanOrEqual(0);
  const block = new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(PAGE.slice(from))?.[1];
  expect(block).toBeDefined();
  return block ?? '';
}

it('the command bundles the first example as it stands', async () => {
  ensureBuilt();
  const place = new Workplace();
  try {
    place.put('page.js', blockBelow('Opening a file', 'js'));
    const [tool, ...words] = blockBelow('', 'sh').trim().split(' ');
    expect(tool).toBe('esbuild');
    await promisify(execFile)(join(ROOT, 'node_modules/.bin/esbuild'), words, { cwd: place.folder });
    expect(readFileSync(join(place.folder, 'bundle.js'), 'utf8')).not.toMatch(/["']node:/);
  } finally {
    place.remove();
  }
}, 120_000);

const HTML = blockBelow('Opening a file', 'html');

describeWithPeers(['chromium'], 'browser: a chosen file', () => {
  let browser: Browser;

  beforeAll(async () => {
    ensureBuilt();
    browser = await startChromium();
  }, 60_000);
  afterAll(() => browser?.close());

  /** A page that runs this code, with the sample chosen. */
  const choose = async (code: string) => {
    const page = await browser.open((await bundleForPage(code)).code, HTML);
    await page.addScriptTag({ url: '/bundle.js', type: 'module' });
    return { page, chosen: () => page.setInputFiles('#image', SAMPLE) };
  };

  it('reads as it should, whole', async () => {
    const { page, chosen } = await choose(`
      import { Disk } from 'vdkit';
      import { BlobProvider } from 'vdkit/storage';
      export async function hash() {
        const disk = await Disk.open(new BlobProvider().add(document.querySelector('#image').files[0]));
        const bytes = new Uint8Array(disk.size);
        await disk.read(0, bytes);
        await disk.close();
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      }`);
    await chosen();
    expect(SAMPLE_SHA256).toBeDefined();
    expect(await callInPage(page, 'hash')).toBe(SAMPLE_SHA256);
  });

  it('reads the same through a queue, into buffers of a manager', async () => {
    const { page, chosen } = await choose(`
      import { Disk, IoBufferManager, IoIterator, IoQueue } from 'vdkit';
      import { BlobProvider } from 'vdkit/storage';
      export async function hash() {
        const disk = await Disk.open(new BlobProvider().add(document.querySelector('#image').files[0]));
        const bytes = new Uint8Array(disk.size);
        const manager = new IoBufferManager({ limit: 64 * 1024, notPageable: true });
        const queue = new IoQueue();
        queue.attach(disk);
        const read = async (start) => {
          const iterator = new IoIterator(disk, [{ start, size: 4096 }]);
          const buffer = await manager.allocate(4096);
          await queue.run('read', iterator, buffer);
          bytes.set(buffer.segments[0], start);
          buffer.release();
        };
        await Promise.all(Array.from({ length: disk.size / 4096 }, (_, number) => read(number * 4096)));
        await queue.detach();
        await disk.close();
        const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
        return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('') + manager.isLocked;
      }`);
    await chosen();
    expect(await callInPage(page, 'hash')).toBe(`${SAMPLE_SHA256}false`);
  });

  it('is looked into by the first example', async () => {
    const { page, chosen } = await choose(blockBelow('Opening a file', 'js'));
    await chosen();
    await page.waitForFunction(() => document.querySelector('#about')?.textContent !== '');
    expect(await page.textContent('#about')).toBe('vdi, 8388608 bytes, bootable: true');
  });

  it('is inspected by a page for its format alone', async () => {
    const { page, chosen } = await choose(blockBelow('A page for some formats', 'js'));
    await chosen();
    await page.waitForFunction(() => document.querySelector('#about')?.textContent !== '');
    expect(await page.textContent('#about')).toBe('8388608 bytes');
  });

  it('is converted by the second example', async () => {
    const { page, chosen } = await choose(blockBelow('Creating an image', 'js'));
    const downloading = page.waitForEvent('download');
    await chosen();
    const download = await downloading;
    expect(download.suggestedFilename()).toBe('converted.vdi');
    const converted = await readFile(await download.path());
    await using disk = await Disk.open(new BlobProvider().add(new Blob([converted])));
    const bytes = new Uint8Array(disk.size);
    await disk.read(0, bytes);
    expect(createHash('sha256').update(bytes).digest('hex')).toBe(SAMPLE_SHA256);
  });
});
