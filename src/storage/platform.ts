/**
 * Local files and connections of the platform. Wrapped in functions, so that the package's types do not mention Node: a
 * project without Node's types can use them.
 */
import * as platform from '#local-storage';
import type { StorageProvider } from './contract.ts';
import type { TcpConnector } from './tcp.ts';

/** The provider for local files, used when the caller gives none. Throws `unsupported` in a browser. */
export function defaultProvider(): StorageProvider {
  return platform.defaultProvider();
}

/** The TCP connector of this system. In a browser connecting throws `unsupported`. */
export function tcpConnector(): TcpConnector {
  return platform.tcpConnector();
}
