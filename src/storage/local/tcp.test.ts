/** Connections over loopback, to a small server that does as each test needs. */
import { once } from 'node:events';
import * as net from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { expectSameBytes } from '../../../test/conformance/expect-bytes.ts';
import { expectKind } from '../../../test/conformance/expect-kind.ts';
import { randomBytes } from '../../../test/conformance/random.ts';
import { createImage } from '../../operations/create.ts';
import { openDisk } from '../../operations/open.ts';
import { Random } from '../../testing/random.ts';
import { rangeStorage } from '../../vfs/range.ts';
import { insideSource } from '../../vfs/source.ts';
import { allOf, lengthOf } from '../checks.ts';
import type { OperationOptions, ReadTarget, Storage, WriteSource } from '../contract.ts';
import { tcpConnector as refusing } from '../local.browser.ts';
import { MemoryProvider } from '../memory.ts';
import type { TcpConnection } from '../tcp.ts';
import { tcpConnector } from './tcp.ts';

const opened: { close(): unknown }[] = [];
afterEach(() => {
  for (const one of opened.splice(0)) one.close();
});

/** A connection, with the server's end of it. */
async function pair(): Promise<{ near: TcpConnection; far: net.Socket; port: number }> {
  const server = net.createServer({ allowHalfOpen: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const accepting = once(server, 'connection');
  const near = await tcpConnector().connect('127.0.0.1', port, { timeoutMs: 10_000 });
  const [far] = (await accepting) as [net.Socket];
  far.on('error', () => {});
  opened.push({ close: () => near.close() }, { close: () => far.destroy() }, server);
  return { near, far, port };
}

const bytes = (length: number): Uint8Array => randomBytes(new Random(length), length);

describe('a connection', () => {
  it('has addresses, and is there until it is closed', async () => {
    const { near, far, port } = await pair();
    expect(near).toMatchObject({
      peerAddress: `127.0.0.1:${port}`,
      localAddress: `127.0.0.1:${far.remotePort}`,
      connected: true,
    });
    await near.close();
    await near.close();
    expect(near.connected).toBe(false);
    await expectKind(() => near.write(Uint8Array.of(1)), 'io');
    await expectKind(() => near.read(new Uint8Array(1)), 'io');
    await expectKind(() => near.flush(), 'io');
  });

  it.each([1, 1000, 65_536, 1_000_000])('fills %d bytes, however they come', async (length) => {
    const { near, far } = await pair();
    const data = bytes(length);
    const target = new Uint8Array(length);
    const reading = near.read(target);
    for (let at = 0; at < length; at += 7919) far.write(data.subarray(at, at + 7919));
    expect(await reading).toBe(length);
    expectSameBytes(target, data);
  });

  it('gives what is there to a partial read, and null or 0 at the end', async () => {
    const { near, far } = await pair();
    const target = new Uint8Array(100);
    expect(near.readNow(target)).toBe(0);
    far.write(bytes(10));
    expect(await near.read(target, { partial: true })).toBe(10);
    expectSameBytes(target.subarray(0, 10), bytes(10));
    far.end(bytes(5));
    expect(await near.read(target.subarray(0, 3))).toBe(3);
    await expect(near.read(target)).rejects.toMatchObject({ kind: 'io', status: 'VERR_EOF' });
    expect(near.readNow(target)).toBe(2);
    expect(await near.read(target)).toBe(0);
    expect(near.readNow(target)).toBeNull();
    // The other half is still open.
    await near.write(Uint8Array.of(1));
    expect((await once(far, 'data'))[0][0]).toBe(1);
  });

  it('serves reads in the order of their calls', async () => {
    const { near, far } = await pair();
    const targets = [new Uint8Array(100), new Uint8Array(50_000), new Uint8Array(200_000)];
    const reads = targets.map((target) => near.read(target));
    const data = bytes(250_100);
    far.write(data);
    await Promise.all(reads);
    expectSameBytes(Uint8Array.from(targets.flatMap((target) => [...target])), data);
  });

  it('keeps for the next read what a cancelled one got', async () => {
    for (const length of [100, 1_000_000]) {
      const { near, far } = await pair();
      const stopping = new AbortController();
      const reading = near.read(new Uint8Array(length), { signal: stopping.signal });
      const data = bytes(length);
      const half = length / 2;
      far.write(data.subarray(0, half));
      while (far.bytesWritten < half || far.writableLength > 0) await new Promise(setImmediate);
      stopping.abort();
      await expect(reading).rejects.toMatchObject({ kind: 'aborted' });
      far.write(data.subarray(half));
      const target = new Uint8Array(length);
      expect(await near.read(target)).toBe(length);
      expectSameBytes(target, data);
    }
  });

  it('writes lists of buffers as one, in the order of the calls', async () => {
    const { near, far } = await pair();
    const data = bytes(300_000);
    const got: Buffer[] = [];
    far.on('data', (chunk) => got.push(chunk as Buffer));
    near.sendAtOnce(false);
    const writes = [
      near.write([data.subarray(0, 10), data.subarray(10, 10), data.subarray(10, 100_000)]),
      near.write(data.subarray(100_000)),
    ];
    near.sendAtOnce(true);
    await Promise.all(writes);
    await near.flush();
    const ended = once(far, 'close');
    while (Buffer.concat(got).length < data.length) await once(far, 'data');
    expectSameBytes(Buffer.concat(got), data);
    await near.close();
    far.end();
    await ended;
  });

  it('fails when the other side breaks it off', async () => {
    const { near, far } = await pair();
    const reading = near.read(new Uint8Array(10));
    far.resetAndDestroy();
    await expect(reading).rejects.toMatchObject({ kind: 'io', status: 'VERR_NET_CONNECTION_RESET_BY_PEER' });
    expect((await near.wait({ read: true })).error).toBe(true);
    await expectKind(() => near.write(Uint8Array.of(1)), 'io');
  });

  it('ends a read when it is closed', async () => {
    const { near } = await pair();
    const reading = near.read(new Uint8Array(10));
    await near.close();
    await expect(reading).rejects.toMatchObject({ kind: 'io', status: 'VERR_NET_NOT_CONNECTED' });
  });
});

describe('waiting', () => {
  it('ends when there is something to read, or room to write', async () => {
    const { near, far } = await pair();
    expect(await near.wait({ read: true, write: true })).toEqual({
      reason: 'ready',
      read: false,
      write: true,
      error: false,
    });
    const waiting = near.wait({ read: true });
    far.write(bytes(3));
    expect(await waiting).toEqual({ reason: 'ready', read: true, write: false, error: false });
    await near.read(new Uint8Array(3));
    far.end();
    expect(await near.wait({ read: true })).toMatchObject({ reason: 'ready', read: true });
    expect(near.readNow(new Uint8Array(1))).toBeNull();
  });

  it('ends when the time is over', async () => {
    const { near } = await pair();
    const nothing = { reason: 'timeout', read: false, write: false, error: false };
    expect(await near.wait({ read: true }, { timeoutMs: 0 })).toEqual(nothing);
    expect(await near.wait({ read: true }, { timeoutMs: 5 })).toEqual(nothing);
  });

  it('ends when it is poked, also before it began, and once', async () => {
    const { near } = await pair();
    const waiting = near.wait({ read: true });
    near.poke();
    expect((await waiting).reason).toBe('poked');
    near.poke();
    near.poke();
    expect((await near.wait({ read: true, write: true })).reason).toBe('poked');
    expect((await near.wait({ read: true }, { timeoutMs: 0 })).reason).toBe('timeout');
  });

  it('ends by the signal', async () => {
    const { near } = await pair();
    const stopping = new AbortController();
    const waiting = near.wait({ read: true }, { signal: stopping.signal });
    stopping.abort();
    await expect(waiting).rejects.toMatchObject({ kind: 'aborted' });
    await expectKind(() => near.wait({}, { signal: stopping.signal }), 'aborted');
  });
});

describe('connecting', () => {
  const { connect } = tcpConnector();

  it('says who does not answer', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as net.AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    await expect(connect('127.0.0.1', port)).rejects.toMatchObject({
      kind: 'io',
      status: 'VERR_NET_CONNECTION_REFUSED',
      context: { path: `127.0.0.1:${port}` },
    });
  });

  it('gives up when the time is over, or when it is told to', async () => {
    const server = net.createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    opened.push(server);
    const { port } = server.address() as net.AddressInfo;
    const late = connect('127.0.0.1', port, { timeoutMs: 1 });
    // Timers come before sockets: with the time gone, the connection comes too late.
    const until = performance.now() + 20;
    while (performance.now() < until);
    await expect(late).rejects.toMatchObject({ kind: 'io', status: 'VERR_TIMEOUT' });
    const stopping = new AbortController();
    const stopped = connect('127.0.0.1', port, { signal: stopping.signal });
    stopping.abort();
    await expect(stopped).rejects.toMatchObject({ kind: 'aborted' });
    await expectKind(() => connect('127.0.0.1', port, { signal: stopping.signal }), 'aborted');
  });

  it('refuses what is no address, and everything in a browser', async () => {
    for (const [address, port] of [
      ['', 1],
      ['127.0.0.1', 0],
      ['127.0.0.1', 65_536],
      ['127.0.0.1', 1.5],
    ] as const) {
      await expectKind(() => connect(address, port), 'invalid-argument');
    }
    await expectKind(() => refusing().connect('127.0.0.1', 1), 'unsupported');
  });
});

/** A remote storage: sends `offset, length` (f64, u32) and receives or sends the bytes. */
class RemoteStorage implements Storage {
  readonly label = 'remote';
  readonly can = { write: true, resize: false, random: true, punch: false, growsZeroed: false };
  readonly size: number;
  readonly #connection: TcpConnection;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(connection: TcpConnection, size: number) {
    this.#connection = connection;
    this.size = size;
  }

  read(offset: number, target: ReadTarget, options?: OperationOptions): Promise<void> {
    return this.#inOrder(async () => {
      await this.#connection.write(request(0, offset, lengthOf(target)));
      for (const buffer of allOf(target)) await this.#connection.read(buffer, options);
    });
  }

  write(offset: number, source: WriteSource): Promise<void> {
    return this.#inOrder(() => this.#connection.write([request(1, offset, lengthOf(source)), ...allOf(source)]));
  }

  #inOrder(run: () => Promise<void>): Promise<void> {
    const running = this.#queue.then(run);
    this.#queue = running.catch(() => {});
    return running;
  }

  extentAt = () => ({ start: 0, end: this.size, data: true });
  zero = (offset: number, length: number) => this.write(offset, new Uint8Array(length));
  resize = () => Promise.reject(new Error('never'));
  flush = () => this.#inOrder(() => this.#connection.flush());
  identity = async () => ({ key: 'remote', kind: 'other' as const, allocatedSize: null, modifiedMs: null });
  lock = async () => {};
  lockState = async () => ({ held: null, holders: [] });
  close = () => this.#connection.close();
}

function request(kind: number, offset: number, length: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(13));
  view.setUint8(0, kind);
  view.setFloat64(1, offset);
  view.setUint32(9, length);
  return new Uint8Array(view.buffer);
}

/** Serves the bytes until the connection ends. */
function serve(socket: net.Socket, content: Uint8Array): void {
  let waiting: Uint8Array = new Uint8Array(0);
  socket.on('data', (chunk) => {
    waiting = Buffer.concat([waiting, chunk as Buffer]);
    while (waiting.length >= 13) {
      const view = new DataView(waiting.buffer, waiting.byteOffset);
      const [kind, offset, length] = [view.getUint8(0), view.getFloat64(1), view.getUint32(9)];
      const end = 13 + (kind === 1 ? length : 0);
      if (waiting.length < end) return;
      if (kind === 0) socket.write(content.slice(offset, offset + length));
      else content.set(waiting.subarray(13, end), offset);
      waiting = waiting.subarray(end);
    }
  });
}

it('gives up a read from a machine that does not answer', async () => {
  const { near } = await pair();
  const storage = new RemoteStorage(near, 4096);
  const stop = new AbortController();
  const reading = rangeStorage(storage, 0).read(0, new Uint8Array(512), { signal: stop.signal });
  stop.abort();
  await expectKind(() => reading, 'aborted');
  await storage.close();
});

it('carries a disk that lies on another machine', async () => {
  const place = { provider: new MemoryProvider(), name: '/disk.vdi' };
  await createImage(place, { size: 4 * 2 ** 20, variant: ['fixed'] });
  const image = await place.provider.open(place.name, 'read');
  const content = new Uint8Array(image.size);
  await image.read(0, content);
  const { near, far } = await pair();
  serve(far, content);
  const data = bytes(2_000_000);
  const storage = new RemoteStorage(near, content.length);
  {
    await using disk = await openDisk(insideSource(storage), { mode: 'write' });
    await disk.write(123_456, data);
    await disk.flush();
    const got = new Uint8Array(data.length);
    await disk.read(123_456, got);
    expectSameBytes(got, data);
  }
  await storage.close();
  await using disk = await openDisk(insideSource(await memoryOf(content)));
  const got = new Uint8Array(data.length);
  await disk.read(123_456, got);
  expectSameBytes(got, data);
});

async function memoryOf(content: Uint8Array): Promise<Storage> {
  const storage = await new MemoryProvider().create('/copy');
  await storage.write(0, content);
  return storage;
}
