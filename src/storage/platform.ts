/**
 * What the platform has: local files and connections. Functions of our own, so that types of the package name nothing of
 * Node: a project without Node's types can use it.
 */
import * as platform from '#local-storage';
import type { StorageProvider } from './contract.ts';
import type { TcpConnector } from './tcp.ts';

/** Where names are looked up when the caller gives no provider: local files. Throws `unsupported` in a browser. */
export function defaultProvider(): StorageProvider {
  return platform.defaultProvider();
}

/** The TCP connections of this system. In a browser connecting throws `unsupported`. */
export function tcpConnector(): TcpConnector {
  return platform.tcpConnector();
}
