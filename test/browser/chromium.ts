/** Headless Chromium with one page that reaches no network: what it may load is given to it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium, type Page } from 'playwright-core';
import { findPeer, PEERS } from '../../scripts/peers.mjs';

/** A secure origin that exists in the page only. */
const ORIGIN = 'https://page.test/';
const FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A running browser. */
export interface Browser {
  readonly version: string;
  /** An empty page whose `bundle.js` is this code, ready to be imported. */
  open(code: string, body?: string): Promise<Page>;
  close(): Promise<void>;
}

/** Imports the page's bundle and calls what it exports under this name. */
export function callInPage<T>(page: Page, name: string): Promise<T> {
  // As text, since vitest rewrites imports in functions.
  return page.evaluate<T>(`import('/bundle.js').then((bundle) => bundle.${name}())`);
}

export async function startChromium(): Promise<Browser> {
  const peer = PEERS.find(({ name }) => name === 'chromium');
  const executablePath = peer === undefined ? null : findPeer(peer);
  if (executablePath === null) throw new Error('chromium is not installed');
  const profile = await mkdtemp(join(tmpdir(), 'vdkit-chromium-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath, headless: true, args: FLAGS });
  return {
    version: context.browser()?.version() ?? 'of unknown version',
    async open(code, body = '') {
      const page = await context.newPage();
      await page.route('**', (route) => {
        const path = route.request().url().slice(ORIGIN.length);
        if (path === '') return route.fulfill({ contentType: 'text/html', body: `<!doctype html>${body}` });
        if (path === 'bundle.js') return route.fulfill({ contentType: 'text/javascript', body: code });
        return path === 'favicon.ico' ? route.fulfill({ status: 404 }) : route.abort();
      });
      await page.goto(ORIGIN);
      return page;
    },
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}
