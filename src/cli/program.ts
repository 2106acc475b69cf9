/** Connects the command line to this process. */
import { readFileSync } from 'node:fs';
import { commandWords } from '#local-storage';
import type { ImportModule } from '../plugin/plugins.ts';
import { EXIT } from './failure.ts';
import type { CliIo } from './io.ts';
import { run } from './main.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

const makeIo = (importModule: ImportModule): CliIo => ({
  stdin: () => process.stdin,
  get stdout() {
    return process.stdout;
  },
  get stderr() {
    return process.stderr;
  },
  environment: process.env,
  version: readVersion,
  onInterrupt(tell) {
    const stop = (): void => {
      // From now on a signal does what it does to any other program: it kills.
      for (const signal of SIGNALS) process.off(signal, interrupted);
    };
    const interrupted = (): void => {
      stop();
      tell();
    };
    for (const signal of SIGNALS) process.on(signal, interrupted);
    return stop;
  },
  importModule,
});

/**
 * Runs the words of this process and sets its exit status. `importModule`: `import()` from a file that Node's own
 * loader loaded; precompiled code has none.
 */
export async function main(importModule: ImportModule): Promise<void> {
  // Not before there is something to wait for.
  setImmediate(spareTheProcessor);
  process.exitCode = await run(commandWords(process.argv.slice(2)), makeIo(importModule));
  // What an interrupt left waiting, such as a pipe without a reader, must not keep the process.
  if (process.exitCode === EXIT.interrupted) process.exit();
}

/** For the build, which runs some commands before it compiles. */
export { run } from './main.ts';

/**
 * The engine's background threads optimise functions as soon as they are warm. That takes a tenth of a second from a
 * core that is busy copying, for code that waits for the copy anyway, and a finished command waits for it to end; here
 * they wait until functions are hot. Only for engine versions where this was measured: the setting is theirs.
 */
function spareTheProcessor(): void {
  if (!process.versions.v8.startsWith('11.')) return;
  process.getBuiltinModule('node:v8').setFlagsFromString('--interrupt-budget=1000000');
}

/** Read from the package's own manifest, wherever the bundle lies inside the package. */
function readVersion(): string {
  for (let folder = new URL('./', import.meta.url); ; folder = new URL('../', folder)) {
    const version = versionIn(new URL('package.json', folder));
    if (version !== null) return version;
    if (folder.pathname === new URL('../', folder).pathname) return 'unknown';
  }
}

function versionIn(manifest: URL): string | null {
  try {
    const { name, version }: { name?: unknown | undefined; version?: unknown | undefined } = JSON.parse(
      readFileSync(manifest, 'utf8'),
    );
    return name === 'vdkit' && typeof version === 'string' ? version : null;
  } catch {
    // No manifest here, or somebody else's: the next folder up may have it.
    return null;
  }
}
