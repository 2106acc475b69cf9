/**
 * Connections over Node's sockets. A socket is never in flowing mode: it keeps a bounded number of bytes until they are
 * taken, so a slow reader makes the other side wait.
 */
import * as net from 'node:net';
import { ImageError, throwIfAborted } from '../../errors.ts';
import type { OperationOptions } from '../contract.ts';
import type { TcpConnection, TcpConnectOptions, TcpConnector, TcpEvents, TcpInterest, TcpWaitOptions } from '../tcp.ts';
import { errorCode, systemError } from './errno.ts';

const LAST_PORT = 65_535;
/** Socket error codes and their names in vd.h. */
const STATUSES: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'VERR_NET_CONNECTION_REFUSED',
  ECONNRESET: 'VERR_NET_CONNECTION_RESET_BY_PEER',
  ECONNABORTED: 'VERR_NET_CONNECTION_ABORTED',
  EHOSTUNREACH: 'VERR_NET_HOST_UNREACHABLE',
  ENETUNREACH: 'VERR_NET_UNREACHABLE',
  ETIMEDOUT: 'VERR_TIMEOUT',
  ENOTFOUND: 'VERR_NET_HOST_NOT_FOUND',
  EAI_AGAIN: 'VERR_NET_HOST_NOT_FOUND',
  EPIPE: 'VERR_BROKEN_PIPE',
};

/** TCP connections of this system. */
export function tcpConnector(): TcpConnector {
  return { connect };
}

async function connect(address: string, port: number, options: TcpConnectOptions = {}): Promise<TcpConnection> {
  const { signal, timeoutMs } = options;
  throwIfAborted(signal, 'Connecting');
  const path = nameOf(address, port);
  if (address === '' || !Number.isInteger(port) || port < 1 || port > LAST_PORT) {
    throw new ImageError('invalid-argument', 'The address is not valid', {
      found: path,
      expected: `a name or an address, and a port from 1 to ${LAST_PORT}`,
    });
  }
  // The other side may end its half while we still write.
  const socket = net.connect({ host: address, port, noDelay: true, allowHalfOpen: true });
  await new Promise<void>((resolve, reject) => {
    const fail = (error: unknown): void => {
      settle();
      // Nothing that the socket says after this is heard.
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const late = (): void => fail(timedOut(path, timeoutMs ?? 0));
    const abort = (): void => fail(new ImageError('aborted', 'Connecting was cancelled', { cause: signal?.reason }));
    const refused = (error: Error): void => fail(failure(error, path));
    const connected = (): void => {
      settle();
      resolve();
    };
    const timer = timeoutMs === undefined ? undefined : setTimeout(late, timeoutMs);
    function settle(): void {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
      socket.off('error', refused).off('connect', connected);
    }
    signal?.addEventListener('abort', abort, { once: true });
    socket.once('error', refused).once('connect', connected);
  });
  return new SocketConnection(socket, path);
}

class SocketConnection implements TcpConnection {
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly #socket: net.Socket;
  /** Reads come one after another. */
  #reading: Promise<unknown> = Promise.resolve();
  #writing: Promise<unknown> = Promise.resolve();
  /** Bytes taken by a read that did not complete. */
  #rest: Uint8Array = new Uint8Array(0);
  #failure: unknown = null;
  #ended = false;
  #poked = false;
  /** Called on every event that may end waiting. */
  readonly #waiting = new Set<() => void>();

  constructor(socket: net.Socket, peer: string) {
    this.#socket = socket;
    this.localAddress = nameOf(socket.localAddress ?? '', socket.localPort ?? 0);
    this.peerAddress = socket.remoteAddress === undefined ? peer : nameOf(socket.remoteAddress, socket.remotePort ?? 0);
    const wake = (): void => {
      for (const look of [...this.#waiting]) look();
    };
    socket.on('readable', wake).on('drain', wake).on('close', wake);
    socket.on('end', () => {
      this.#ended = true;
      wake();
    });
    socket.on('error', (error) => {
      this.#failure ??= failure(error, this.peerAddress);
      wake();
    });
  }

  get connected(): boolean {
    return !this.#socket.destroyed;
  }

  read(
    target: Uint8Array,
    options: OperationOptions & { readonly partial?: boolean | undefined } = {},
  ): Promise<number> {
    const reading = this.#reading.then(() => this.#read(target, options));
    this.#reading = reading.catch(() => {});
    return reading;
  }

  readNow(target: Uint8Array): number | null {
    const taken = this.#take(target, 0);
    if (taken > 0 || target.length === 0) return taken;
    this.#check();
    return this.#ended ? null : 0;
  }

  write(source: Uint8Array | readonly Uint8Array[]): Promise<void> {
    const buffers = (source instanceof Uint8Array ? [source] : source).filter(({ length }) => length > 0);
    const writing = this.#write(buffers);
    this.#writing = Promise.all([this.#writing, writing]).catch(() => {});
    return writing;
  }

  async flush(): Promise<void> {
    await this.#writing;
    this.#check();
  }

  async wait(interest: TcpInterest, options: TcpWaitOptions = {}): Promise<TcpEvents> {
    const { signal, timeoutMs } = options;
    throwIfAborted(signal, 'Waiting');
    if (this.#takePoke()) return this.#events('poked', interest);
    if (this.#isReady(interest)) return this.#events('ready', interest);
    if (timeoutMs === 0) return this.#events('timeout', interest);
    const reason = await this.#until(() => this.#poked || this.#isReady(interest), { signal, timeoutMs });
    if (reason === 'timeout') return this.#events('timeout', interest);
    return this.#events(this.#takePoke() ? 'poked' : 'ready', interest);
  }

  poke(): void {
    this.#poked = true;
    for (const look of [...this.#waiting]) look();
  }

  sendAtOnce(on: boolean): void {
    this.#socket.setNoDelay(on);
  }

  async close(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.destroy();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #read(
    target: Uint8Array,
    options: OperationOptions & { readonly partial?: boolean | undefined },
  ): Promise<number> {
    const { signal, partial = false } = options;
    throwIfAborted(signal, 'Reading');
    let done = 0;
    try {
      for (;;) {
        // A socket tells of its end only when all is taken.
        done += this.#take(target, done);
        if (done === target.length || (partial && done > 0)) return done;
        if (this.#ended || !this.connected) break;
        await this.#until(() => this.#there > 0 || this.#ended || !this.connected, { signal });
      }
      this.#check();
      if (done > 0) throw this.#endsEarly(done, target.length);
      return 0;
    } catch (error) {
      // They come before everything that is there, for the next read.
      this.#rest = joined(target.subarray(0, done), this.#rest);
      throw error;
    }
  }

  #endsEarly(found: number, expected: number): ImageError {
    return new ImageError('io', 'The connection was closed before all data arrived', {
      status: 'VERR_EOF',
      path: this.peerAddress,
      found: `${found} bytes`,
      expected: `${expected} bytes`,
    });
  }

  /** Bytes available without waiting. */
  get #there(): number {
    return this.#rest.length + this.#socket.readableLength;
  }

  /** Copies the available bytes, as far as they fit. */
  #take(target: Uint8Array, from: number): number {
    const first = this.#rest.subarray(0, target.length - from);
    target.set(first, from);
    this.#rest = this.#rest.subarray(first.length);
    const at = from + first.length;
    const count = Math.min(this.#socket.readableLength, target.length - at);
    // Asking for nothing makes the socket look for more.
    const bytes: Uint8Array | null = this.#socket.read(count);
    if (count === 0 || bytes === null) return first.length;
    target.set(bytes, at);
    return first.length + bytes.length;
  }

  async #write(buffers: readonly Uint8Array[]): Promise<void> {
    this.#check();
    if (buffers.length === 0) return;
    this.#socket.cork();
    const all = buffers.map(
      (buffer) =>
        new Promise<void>((resolve, reject) => {
          this.#socket.write(buffer, (error) => {
            if (error === null || error === undefined) resolve();
            else reject(this.#failure ?? failure(error, this.peerAddress));
          });
        }),
    );
    this.#socket.uncork();
    for (const result of await Promise.allSettled(all)) if (result.status === 'rejected') throw result.reason;
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.connected) return;
    throw new ImageError('io', 'The connection is closed', {
      status: 'VERR_NET_NOT_CONNECTED',
      path: this.peerAddress,
    });
  }

  #takePoke(): boolean {
    const poked = this.#poked;
    this.#poked = false;
    return poked;
  }

  #isReady({ read = false, write = false }: TcpInterest): boolean {
    if (this.#hasError()) return true;
    return (read && this.#canRead()) || (write && this.#canWrite());
  }

  #hasError(): boolean {
    return this.#failure !== null || !this.connected;
  }

  #canRead(): boolean {
    // An end shows only when somebody has looked for more.
    if (this.#there === 0 && !this.#ended) this.#socket.read(0);
    return this.#there > 0 || this.#ended;
  }

  #canWrite(): boolean {
    return this.connected && !this.#socket.writableNeedDrain;
  }

  #events(reason: TcpEvents['reason'], { read = false, write = false }: TcpInterest): TcpEvents {
    return { reason, read: read && this.#canRead(), write: write && this.#canWrite(), error: this.#hasError() };
  }

  #until(
    done: () => boolean,
    { signal, timeoutMs }: { readonly signal?: AbortSignal | undefined; readonly timeoutMs?: number | undefined },
  ): Promise<'done' | 'timeout'> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (done()) end(() => resolve('done'));
      };
      const abort = (): void =>
        end(() => reject(new ImageError('aborted', 'Waiting was cancelled', { cause: signal?.reason })));
      const timer = timeoutMs === undefined ? undefined : setTimeout(() => end(() => resolve('timeout')), timeoutMs);
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        this.#waiting.delete(look);
        settle();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#waiting.add(look);
      // Tells the socket that somebody waits for more.
      this.#socket.read(0);
      look();
    });
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}

function nameOf(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
}

function timedOut(path: string, milliseconds: number): ImageError {
  return new ImageError('io', 'The connection timed out', {
    status: 'VERR_TIMEOUT',
    path,
    expected: `${milliseconds} ms`,
  });
}

/** Several addresses of one name fail together; the first failure is reported. */
function failure(error: unknown, path: string): unknown {
  const first = error instanceof AggregateError ? (error.errors[0] ?? error) : error;
  const status = STATUSES[errorCode(first) ?? ''];
  if (status === undefined) return systemError(first, { path });
  const message = first instanceof Error ? first.message : String(first);
  return new ImageError('io', `The connection failed: ${message}`, { status, path, cause: first });
}
