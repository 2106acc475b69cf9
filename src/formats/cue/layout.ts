/**
 * Sectors of a compact disc as cue sheets name them (ECMA-130, ECMA-130 annex and CD-ROM XA; CDRWIN User's Guide for the
 * words).
 */
import type { DataForm } from '../../image/regions.ts';

/** One kind of track. */
export interface TrackType {
  /** Word of a TRACK line. */
  readonly word: string;
  /** Bytes of a sector in the file. */
  readonly stored: number;
  /** User data of a sector: offset and length. */
  readonly data: { readonly offset: number; readonly length: number };
  readonly form: DataForm;
  /** Offset of the XA submode byte, one bit of which tells sectors of form 2; null: there is none. */
  readonly submode: number | null;
  /** Offset of the mode byte behind the sync pattern, and the mode expected there. */
  readonly mode: { readonly offset: number; readonly value: number } | null;
}

/** Samples of a sector: 588 frames of 16-bit stereo. */
export const AUDIO_BYTES = 2352;
/** User bytes of a data sector. */
export const USER_BYTES = 2048;
/** Bit of the submode: 2,324 bytes of user data, without error correction. */
export const FORM_2 = 0x20;
/** Frames of a second. */
export const FRAMES = 75;
/** Frames before the first of a disc. */
export const LEAD = 2 * FRAMES;
/** Offset of the mode byte in a whole sector: 12 bytes of sync, 3 of address. */
const MODE_AT = 15;

function type(
  word: string,
  form: DataForm,
  [stored, offset, length]: readonly [number, number, number],
  submode: number | null = null,
  mode: number | null = null,
): TrackType {
  const data = { offset, length };
  return { word, form, stored, data, submode, mode: mode === null ? null : { offset: MODE_AT, value: mode } };
}

/** All kinds of tracks. */
export const TRACK_TYPES: readonly TrackType[] = [
  type('AUDIO', 'cdda', [AUDIO_BYTES, 0, AUDIO_BYTES]),
  type('CDG', 'cdda', [2448, 0, AUDIO_BYTES]),
  type('MODE1/2048', 'mode1-2048', [2048, 0, USER_BYTES]),
  type('MODE1/2352', 'mode1-2352', [2352, 16, USER_BYTES], null, 1),
  type('MODE2/2048', 'mode2-0', [2048, 0, USER_BYTES]),
  type('MODE2/2336', 'mode2-2336', [2336, 8, USER_BYTES], 2),
  type('MODE2/2352', 'mode2-2352', [2352, 24, USER_BYTES], 18, 2),
  type('CDI/2336', 'mode2-2336', [2336, 8, USER_BYTES], 2),
  type('CDI/2352', 'mode2-2352', [2352, 24, USER_BYTES], 18, 2),
];

/** True for tracks of samples. */
export function isAudio({ form }: TrackType): boolean {
  return form === 'cdda';
}
