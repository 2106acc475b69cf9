/** TCP connections to storage servers: vd.h's TCPNET, for programs that implement it and storages that use it. */
import type { OperationOptions } from './contract.ts';

/** Options for a connection. */
export interface TcpConnectOptions extends OperationOptions {
  /** Milliseconds. Default: the system's own limit. */
  readonly timeoutMs?: number | undefined;
}

/** Opens connections: vd.h's TCPNET. */
export interface TcpConnector {
  /**
   * Connects to a name or an address. Throws `io` (VERR_TIMEOUT after the time limit), `aborted`, `unsupported` where
   * there are no connections, `invalid-argument`.
   */
  connect(address: string, port: number, options?: TcpConnectOptions): Promise<TcpConnection>;
}

/** Events to wait for; errors are always included. */
export interface TcpInterest {
  /** Bytes, or the end of the stream. */
  readonly read?: boolean;
  /** Space for more bytes. */
  readonly write?: boolean;
}

/** Reason why waiting ended, and the operations possible now. */
export interface TcpEvents {
  readonly reason: 'ready' | 'poked' | 'timeout';
  readonly read: boolean;
  readonly write: boolean;
  readonly error: boolean;
}

/** Options for waiting. */
export interface TcpWaitOptions extends OperationOptions {
  /** Milliseconds; 0: poll. Default: without limit. */
  readonly timeoutMs?: number | undefined;
}

/** A connection. Bytes are sent, and reads served, in the order of the calls. Unusable after a failure. */
export interface TcpConnection extends AsyncDisposable {
  /** `127.0.0.1:3260`, `[::1]:3260`. */
  readonly localAddress: string;
  readonly peerAddress: string;
  /** True until closed or lost. Does not probe the other side. */
  readonly connected: boolean;
  /**
   * Fills the target, or with `partial` at least one byte of it; returns the number of bytes. 0 at the end of the
   * stream. Throws `io`: VERR_EOF when the stream ends before the target is full, VERR_NET_CONNECTION_RESET_BY_PEER and
   * the like; `aborted`: bytes received so far belong to the next read.
   */
  read(target: Uint8Array, options?: OperationOptions & { readonly partial?: boolean | undefined }): Promise<number>;
  /**
   * Takes the available bytes without waiting, while no `read` is pending; returns their number, null at the end of the
   * stream.
   */
  readNow(target: Uint8Array): number | null;
  /** Writes all buffers in order. They belong to the caller again when it resolves: the system has copied them. */
  write(source: Uint8Array | readonly Uint8Array[]): Promise<void>;
  /** Waits until the system has accepted all earlier writes. */
  flush(): Promise<void>;
  /**
   * Waits until one of the operations is possible, the connection fails, the time is over or `poke` is called. Throws
   * `aborted`.
   */
  wait(interest: TcpInterest, options?: TcpWaitOptions): Promise<TcpEvents>;
  /** Ends a pending `wait`, or the next one if none is pending. Several calls count as one. */
  poke(): void;
  /** False: small writes may be delayed and combined (Nagle). Default true. */
  sendAtOnce(on: boolean): void;
  /** Closes the connection immediately; unsent bytes may be lost. May be called again. */
  close(): Promise<void>;
}
