/** User data of sectors: a view that leaves out sync, headers, error correction and subchannels. */
import { ImageError } from '../../errors.ts';
import type { Storage } from '../../storage/contract.ts';
import { StorageView, type ViewCodec } from '../../storage/view.ts';
import { FORM_2, type TrackType } from './layout.ts';

/** The user data of the sectors from `fileOffset` on. Only what the stretch has is read through it. */
export function userDataOf(storage: Storage, type: TrackType, fileOffset: number): StorageView {
  return new StorageView(storage, { offset: fileOffset, mode: 'read', codec: userData(type, storage.label) });
}

function userData(type: TrackType, path: string): ViewCodec {
  const { stored: storedUnit, data } = type;
  const unit = data.length;
  return {
    unit,
    storedUnit,
    decode(stored, plain, offset) {
      for (let at = 0; at < plain.length / unit; at++) {
        const sector = stored.subarray(at * storedUnit, (at + 1) * storedUnit);
        checkSector(sector, type, path, offset / unit + at);
        plain.set(sector.subarray(data.offset, data.offset + unit), at * unit);
      }
    },
    encode() {
      throw new Error('internal: tracks are read only');
    },
  };
}

/** Data at another place, or more of it, must not be passed off as the user data. */
function checkSector(sector: Uint8Array, type: TrackType, path: string, number: number): void {
  const hint = 'Read the sectors as they are stored (option sectors: raw).';
  const found = type.mode === null ? undefined : sector[type.mode.offset];
  if (type.mode !== null && (found === 1 || found === 2) && found !== type.mode.value) {
    throw new ImageError('corrupt', 'A sector of the track is of another mode than the cue sheet says', {
      path,
      field: `sector ${number} of the track`,
      found: `mode ${found}`,
      expected: type.word,
      hint: `Correct the TRACK line of the sheet. ${hint}`,
    });
  }
  const submode = type.submode === null ? 0 : (sector[type.submode] ?? 0);
  if ((submode & FORM_2) === 0) return;
  throw new ImageError('unsupported', 'A sector of the track holds 2,324 bytes (XA form 2), as video and sound do', {
    path,
    field: `sector ${number} of the track`,
    hint,
  });
}

/** The samples of an audio track in a MOTOROLA file, low byte first as in a BINARY one. */
export function swappedOf(storage: Storage): StorageView {
  return new StorageView(storage, { mode: 'read', codec: { unit: 2, storedUnit: 2, decode: swap, encode: swap } });
}

function swap(from: Uint8Array, to: Uint8Array): void {
  for (let at = 0; at + 1 < from.length; at += 2) {
    const first = from[at] ?? 0;
    to[at] = from[at + 1] ?? 0;
    to[at + 1] = first;
  }
}
