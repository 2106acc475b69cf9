/** Calling a format directly, as tests of formats do: its file is opened here, without a lock. */
import type { Format, FormatOpenOptions, Image } from '../image/contract.ts';
import { OpenedFiles } from '../image/files.ts';
import type { Finding } from '../image/findings.ts';
import type { OpenMode, OperationOptions, Source } from '../storage/contract.ts';
import { denyAll, type OpenGate, withOwnParts } from '../storage/gate.ts';

/** The files of an image. Default gate: nothing that it names is opened, but its own parts. */
export async function filesOf(source: Source, mode: OpenMode, gate = ownParts(source)): Promise<OpenedFiles> {
  const main = await source.provider.open(source.name, mode);
  return new OpenedFiles({ source, main, gate });
}

function ownParts({ provider, name }: Source): OpenGate {
  return withOwnParts(denyAll(), async () => ({ provider, name, isDirectory: false }));
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
