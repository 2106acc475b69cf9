/**
 * Connections to machines that keep disks: vd.h's TCPNET, for programs that implement it and for storages that use it.
 * No format uses one yet. `tcpConnector` is the one of this system.
 */
import type { OperationOptions } from './contract.ts';

/** How a connection is made. */
export interface TcpConnectOptions extends OperationOptions {
  /** Milliseconds. Left out: as long as the system waits. */
  readonly timeoutMs?: number;
}

/** Opens connections: vd.h's TCPNET. */
export interface TcpConnector {
  /**
   * Connects to a name or an address. Throws `io` (VERR_TIMEOUT when the time is over), `aborted`, `unsupported` where
   * there are no connections, `invalid-argument`.
   */
  connect(address: string, port: number, options?: TcpConnectOptions): Promise<TcpConnection>;
}

/** What is waited for. An error is always waited for. */
export interface TcpInterest {
  /** Bytes, or the end of the stream. */
  readonly read?: boolean;
  /** Room for more bytes. */
  readonly write?: boolean;
}

/** Why waiting ended, and what can be done now. */
export interface TcpEvents {
  readonly reason: 'ready' | 'poked' | 'timeout';
  readonly read: boolean;
  readonly write: boolean;
  readonly error: boolean;
}

/** How long is waited. */
export interface TcpWaitOptions extends OperationOptions {
  /** Milliseconds; 0: only look. Left out: until something happens. */
  readonly timeoutMs?: number;
}

/** A connection. Bytes go out in the order of the calls, and reads are served in it. After a failure it is of no use. */
export interface TcpConnection extends AsyncDisposable {
  /** `127.0.0.1:3260`, `[::1]:3260`. */
  readonly localAddress: string;
  readonly peerAddress: string;
  /** There is a connection that was neither closed nor lost. Says nothing of the other side. */
  readonly connected: boolean;
  /**
   * Fills the target, or with `partial` at least one byte of it; returns how many. 0 at the end of the stream. Throws
   * `io`: VERR_EOF when the stream ends before the target is full, VERR_NET_CONNECTION_RESET_BY_PEER and the like;
   * `aborted`: what came belongs to the next read.
   */
  read(target: Uint8Array, options?: OperationOptions & { readonly partial?: boolean }): Promise<number>;
  /** Takes what is there, without waiting, while no `read` waits; returns how many bytes, null at the end of the stream. */
  readNow(target: Uint8Array): number | null;
  /** All buffers, one behind the other. They belong to the caller again when it resolves: the system has them. */
  write(source: Uint8Array | readonly Uint8Array[]): Promise<void>;
  /** Waits for what was written so far to be taken by the system. */
  flush(): Promise<void>;
  /** Waits until one of them can be done, the connection fails, the time is over or `poke` is called. Throws `aborted`. */
  wait(interest: TcpInterest, options?: TcpWaitOptions): Promise<TcpEvents>;
  /** Ends a `wait`, of whoever waits; where nobody does, the next one ends at once. Any number counts as one. */
  poke(): void;
  /** False: small writes may wait for more (Nagle). Default true. */
  sendAtOnce(on: boolean): void;
  /** Gives the connection up at once; what was written and not sent may be lost. May be called twice. */
  close(): Promise<void>;
}
