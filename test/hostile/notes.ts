/** Record of the examination of one file. */
import { isImageError } from '../../src/errors.ts';

/** Notes of one case, for all its steps. */
export class Notes {
  readonly findings: string[] = [];
  readonly steps: string[] = [];

  /** Runs a step. Undefined when it threw: an `ImageError` is an answer, anything else a finding. */
  async step<T>(name: string, run: () => Promise<T>): Promise<T | undefined> {
    try {
      const value = await run();
      this.steps.push(`${name}:ok`);
      return value;
    } catch (error) {
      this.steps.push(`${name}:${this.kindOf(name, error)}`);
      return undefined;
    }
  }

  /** The kind of an `ImageError`; anything else is written down. */
  kindOf(name: string, error: unknown): string {
    if (isImageError(error)) return error.kind;
    this.findings.push(`${name} threw ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    return 'bug';
  }

  /** Writes down what is wrong. */
  finding(text: string): void {
    this.findings.push(text);
  }
}
