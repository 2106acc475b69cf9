/** Tracks of an optical disc, for reports. */

/** One track. */
export interface TrackInfo {
  readonly number: number;
  /** `audio`, or mode and bytes of a sector: `mode1-2352`. */
  readonly form: string;
  /** File that holds its start, as the image names it. */
  readonly file: string;
  /** First byte of the track in that file, without its gap; null: it is empty. */
  readonly fileOffset: number | null;
  /** Sectors of the disc before it, silence and gaps included; a player counts 150 more. */
  readonly address: number;
  /** Sectors, without gap and silence. */
  readonly frames: number;
  /** Bytes of a sector in the file. */
  readonly blockSize: number;
  /** Sectors before it that belong to its gap and are stored. */
  readonly gapFrames: number;
  /** Sectors of silence around it that are not stored. */
  readonly silentFrames: number;
}
