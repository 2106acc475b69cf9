/** Tests for image formats: the conformance of a disk, and crashes and faults: record, cut, compare. */
export { type ConformanceCase, type ConformanceOptions, conformanceCases } from './conformance.ts';
export type { ConformancePlace } from './conformance-bench.ts';
export {
  type CrashCoverage,
  type CrashState,
  type CrashStateOptions,
  type CrashStates,
  completeState,
  crashStates,
  durablePositions,
} from './crash-states.ts';
export {
  type CrashCheck,
  type CrashCheckOptions,
  type CrashReport,
  type CrashRun,
  type CrashSuite,
  type CrashViolation,
  checkCrashRun,
  recordCrashRun,
  runCrashSuite,
  type UnmissedFlush,
  unmissedFlushes,
} from './crash-suite.ts';
export { type FaultPlan, type FaultPoint, FaultProvider } from './fault-storage.ts';
export { type FormatCrashOptions, formatCrashSuite } from './format-crashes.ts';
export type { MetadataClassifier } from './medium-state.ts';
export {
  describeFlush,
  describeOperation,
  type FileOperation,
  type FlushOperation,
  flushCount,
  type LogEntry,
  type LoggedFile,
  type Mark,
  type MediumOperation,
  type NameOperation,
  OperationLog,
} from './operation-log.ts';
export {
  AllowedContents,
  describeSector,
  type GuestFlush,
  type GuestOperation,
  type GuestOperationKind,
  type GuestResize,
  initialBytes,
  type SectorContent,
  SectorModel,
  SectorReader,
  type SectorViolation,
  writeBytes,
} from './oracle.ts';
export { Random } from './random.ts';
export { type RecordingOptions, RecordingProvider } from './recording-storage.ts';
export { type CrashDevice, CrashSession, randomTraffic, type SessionParts, type TrafficOptions } from './session.ts';
export { type NameRules, SnapshotProvider } from './snapshot-provider.ts';
