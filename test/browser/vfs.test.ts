/** Files, streams and images inside images, in a page, on the built package. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ensureBuilt } from '../../scripts/prepare.mjs';
import { describeWithPeers } from '../peers/peers.ts';
import { bundleForPage } from './bundle.ts';
import { type Browser, callInPage, startChromium } from './chromium.ts';

const CODE = `
  import { Disk, diskFile, fileHandle, insideSource, listPartitions, partitionOf, readableStream, tcpConnector,
    writableStream } from 'vdkit';
  import { MemoryProvider } from 'vdkit/storage';

  export async function play() {
    const provider = new MemoryProvider();
    const outer = await Disk.create({ provider, name: '/outer.vdi' }, { size: 32 * 2 ** 20 });
    // One partition of 16 MiB at 1 MiB.
    const sector = new Uint8Array(512);
    const view = new DataView(sector.buffer);
    view.setUint8(450, 0x83);
    view.setUint32(454, 2048, true);
    view.setUint32(458, 32768, true);
    view.setUint16(510, 0xaa55, true);
    await outer.write(0, sector);
    const { kind, partitions } = await listPartitions(outer);

    const made = await Disk.create({ provider, name: '/inner.vdi' }, { size: 4 * 2 ** 20 });
    await made.close();
    const image = await provider.open('/inner.vdi', 'read');
    const place = await partitionOf(outer, 1);
    await readableStream(image).pipeTo(writableStream(outer, place));

    const inner = await Disk.open(insideSource(outer, place), { mode: 'write' });
    const file = diskFile(inner);
    await new Blob(['hello from a page']).stream().pipeTo(writableStream(inner, { offset: 777 }));
    const target = new Uint8Array(17);
    await file.read(target, { at: 777 });
    const { bytesRead } = await fileHandle(inner).read(new Uint8Array(9), 0, 9, inner.size - 4);
    const text = await new Response(readableStream(inner, { offset: 777, length: 5 })).text();
    await inner.close();
    await outer.close();
    const refused = await tcpConnector().connect('localhost', 1).catch((error) => error.kind);
    return [kind, partitions.length, new TextDecoder().decode(target), bytesRead, text, refused];
  }`;

describeWithPeers(['chromium'], 'browser: disks as files and streams', () => {
  let browser: Browser;

  beforeAll(async () => {
    ensureBuilt();
    browser = await startChromium();
  }, 60_000);
  afterAll(() => browser?.close());

  it('work as in Node', async () => {
    const page = await browser.open((await bundleForPage(CODE)).code);
    expect(await callInPage(page, 'play')).toEqual(['mbr', 1, 'hello from a page', 4, 'hello', 'unsupported']);
  });
});
