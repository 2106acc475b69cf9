/** Calling a format directly, as tests of formats do: its files are opened here, without a lock. */
import type { Format, FormatOpenOptions, Image } from '../image/contract.ts';
import { OpenedFiles } from '../image/files.ts';
import type { Finding } from '../image/findings.ts';
import type { OpenMode, OperationOptions, Source } from '../storage/contract.ts';
import { denyAll, type OpenGate, withOwnParts } from '../storage/gate.ts';

/** The files of an image, or a directory that is one. Default gate: of all that it names, its own parts are opened. */
export async function filesOf(source: Source, mode: OpenMode, gate?: OpenGate): Promise<OpenedFiles> {
  const { provider, name } = source;
  const isDirectory = (await provider.lookUp(name))?.kind === 'directory';
  const main = isDirectory ? null : await provider.open(name, mode);
  const place = async () => ({ provider, name: await provider.realName(name), isDirectory });
  return new OpenedFiles({ source, main, isDirectory, gate: gate ?? withOwnParts(denyAll(), place) });
}

/** Opens an image; its file is closed when that fails. */
export async function openWith(format: Format, source: Source, options: FormatOpenOptions): Promise<Image> {
  const files = await filesOf(source, options.mode);
  try {
    return await format.open(files, options);
  } catch (error) {
    await files.close();
    throw error;
  }
}

/** Runs the check of a format; without one it finds nothing. */
export function checkWith(format: Format, source: Source, options: OperationOptions = {}): Promise<readonly Finding[]> {
  return run(format.check?.bind(format), source, 'read', options);
}

/** Runs the repair of a format; without one it finds nothing. */
export function repairWith(
  format: Format,
  source: Source,
  options: OperationOptions = {},
): Promise<readonly Finding[]> {
  return run(format.repair?.bind(format), source, 'write', options);
}

async function run(
  step: Format['check'],
  source: Source,
  mode: OpenMode,
  options: OperationOptions,
): Promise<readonly Finding[]> {
  if (step === undefined) return [];
  const files = await filesOf(source, mode);
  try {
    return await step(files, options);
  } finally {
    await files.close();
  }
}
