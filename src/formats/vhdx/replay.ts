/** The log of an image that was not closed: replayed in memory where the file is only read. Loaded when there is one. */
import { NULL_GUID, randomGuid } from '../../binary/guid.ts';
import type { FormatOpenOptions } from '../../image/contract.ts';
import type { Storage, StorageIdentity } from '../../storage/contract.ts';
import { OverlayStorage } from '../../storage/overlay.ts';
import { fault } from './fault.ts';
import type { FoundHeaders, Headers } from './headers.ts';
import { checkSequence, findSequence, replay } from './log-reader.ts';
import type { OpenedFile } from './state.ts';

/** A file with the changes of its log. It is the same file as before. */
class ReplayedFile extends OverlayStorage {
  readonly #file: Storage;

  constructor(file: Storage) {
    super(file);
    this.#file = file;
  }

  override identity(): Promise<StorageIdentity> {
    return this.#file.identity();
  }
}

/** Replays a log that is not empty. Throws `corrupt`. */
export async function replayLog(
  file: Storage,
  { header, log }: FoundHeaders,
  headers: Headers,
  { mode, signal }: Pick<FormatOpenOptions, 'mode' | 'signal'>,
): Promise<Pick<OpenedFile, 'storage' | 'replayed'>> {
  const sequence = await findSequence(file, log, header.logGuid, { signal });
  if (sequence === null) {
    throw fault('corrupt', 'The log of the image is damaged: changes that were under way cannot be completed', {
      path: file.label,
      offset: log.fileOffset,
      field: 'log',
      found: 'no valid entry',
      hint: 'To go on without them: "vdkit check --repair IMAGE". Copy the file first.',
    });
  }
  const size = checkSequence(sequence, file, log);
  const storage = mode === 'read' ? new ReplayedFile(file) : file;
  await replay(storage, sequence, size);
  if (mode === 'write') await headers.change({ logGuid: NULL_GUID, fileWriteGuid: randomGuid() });
  return { storage, replayed: sequence.length };
}
