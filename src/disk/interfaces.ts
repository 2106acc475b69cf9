/**
 * Interfaces of vd.h that programs will implement: keys for encryption filters, and sockets for images behind a
 * network. No format or filter uses them yet.
 */
import type { OperationOptions } from '../storage/contract.ts';

/** Gives out keys and passwords: vd.h's CRYPTO. What is handed out must not be kept longer than it is needed. */
export interface KeySupply {
  /** The bytes of a key. They belong to the supply, and are only read until `releaseKey`. Throws `not-found`. */
  key(id: string, options?: OperationOptions): Promise<Uint8Array>;
  releaseKey(id: string): void;
  /** The password of a key store. */
  password(id: string, options?: OperationOptions): Promise<string>;
  releasePassword(id: string): void;
  /** The filter changed its key store, which shall be kept. */
  saveKeyStore(bytes: Uint8Array): Promise<void>;
  /** The cipher and the data encryption key of a key store that was opened, for whoever wants to see them. */
  parameters?(cipher: string, key: Uint8Array): void;
}

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
