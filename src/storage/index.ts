/** Byte stores and providers of names; everything here runs in Node and in browsers. */

export { BlobStorage } from './blob.ts';
export { BlobProvider } from './blob-provider.ts';
export type {
  CreateMode,
  FileAttributes,
  LockHolder,
  LockMode,
  LockOptions,
  LockState,
  MaybePromise,
  NameInfo,
  NewFiles,
  OpenMode,
  OperationOptions,
  PublishHow,
  PublishSetHow,
  ReadTarget,
  Source,
  StagedSet,
  Storage,
  StorageCapabilities,
  StorageExtent,
  StorageHints,
  StorageIdentity,
  StorageProvider,
  StorageScheme,
  WriteSource,
} from './contract.ts';
export { isPromise } from './contract.ts';
export { ForwardingProvider, ForwardingStorage, forwardedProvider, forwardedStorage } from './forwarding.ts';
export { denyAll, type GateOptions, type OpenGate, openGate, type Reference, type ReferenceOrigin } from './gate.ts';
export { MemoryProvider, MemoryStorage } from './memory.ts';
export { OverlayStorage } from './overlay.ts';
export { defaultProvider, tcpConnector } from './platform.ts';
export { readPadded } from './read-padded.ts';
export { type Staged, type StageOptions, stageTarget } from './staging.ts';
export type {
  TcpConnection,
  TcpConnectOptions,
  TcpConnector,
  TcpEvents,
  TcpInterest,
  TcpWaitOptions,
} from './tcp.ts';
export { StorageView, type ViewCodec, type ViewOptions } from './view.ts';
export { withoutHoles } from './without-holes.ts';
