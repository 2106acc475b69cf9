/**
 * Everything that the test suites need to know of one format. `test/formats/<name>.ts` exports one such object as `kit`;
 * the suites run over all formats of the registry, each with its kit.
 */
import type { HostileKit } from '../hostile/descriptor.ts';
import type { CrashKit } from './crash-kit.ts';

/** A format under test. */
export interface FormatKit {
  /** Name of the format in the registry. */
  readonly format: string;
  /** Files that are wrong on purpose; or the reason why none of this format can be. */
  readonly hostile: HostileKit | { readonly without: string };
  /**
   * Power cuts and mutants. Left out: each way to make an image, under common workloads. Loaded when it is needed, since
   * it patches the code under test.
   */
  crash?(): Promise<CrashKit>;
}
