/**
 * Interfaces of vd.h that programs will implement: sockets for images behind a network. No format uses them yet.
 */
import type { OperationOptions } from '../storage/contract.ts';

/** Opens connections: vd.h's TCPNET. */
export interface TcpConnector {
  /** Connects within the time, milliseconds; without one, as long as the system waits. Throws `io`, `aborted`. */
  connect(address: string, port: number, options?: OperationOptions & { timeoutMs?: number }): Promise<TcpConnection>;
}

/** A connection. Bytes go out in the order of the calls. */
export interface TcpConnection {
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly connected: boolean;
  /** Fills the target, or with `partial` at least one byte of it; returns how many. 0 at the end of the stream. */
  read(target: Uint8Array, options?: OperationOptions & { partial?: boolean }): Promise<number>;
  /** All buffers, one behind the other. */
  write(source: Uint8Array | readonly Uint8Array[]): Promise<void>;
  /** False: small writes may wait for more (Nagle). */
  sendAtOnce(on: boolean): void;
  close(): Promise<void>;
}
