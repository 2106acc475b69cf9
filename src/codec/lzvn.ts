/** LZVN, the codes of LZFSE's fast blocks: literals and matches at whole bytes. Decoding only. */
import { ImageError } from '../errors.ts';

/** A decoder's output so far. */
export interface Output {
  readonly bytes: Uint8Array;
  filled: number;
}

/** Meaning of an opcode: literals that follow it, then a match. Distance 0: that of the match before. */
interface Step {
  readonly bytes: number;
  readonly literals: number;
  readonly match: number;
  readonly distance: number;
}

const END = 0x06;
const END_BYTES = 8;
const IDLE: readonly number[] = [0x0e, 0x16];

/** Appends what the codes make, up to the place `target` in the output and no further. Throws `corrupt`. */
export function decodeLzvn(codes: Uint8Array, out: Output, target: number): void {
  let distance = 0;
  for (let at = 0; ; ) {
    const code = codes[at];
    if (code === undefined) throw damaged();
    if (code === END) {
      if (at + END_BYTES > codes.length) throw damaged();
      return;
    }
    if (IDLE.includes(code)) {
      at++;
      continue;
    }
    const step = stepOf(code, codes[at + 1] ?? 0, codes[at + 2] ?? 0);
    const { literals, match } = step;
    at += step.bytes;
    if (at + literals > codes.length || out.filled + literals + match > target) throw damaged();
    out.bytes.set(codes.subarray(at, at + literals), out.filled);
    at += literals;
    out.filled += literals;
    distance = step.distance || distance;
    repeat(out, distance, match);
  }
}

function stepOf(code: number, first: number, second: number): Step {
  const high = code >> 4;
  if (high === 0x7 || high === 0xd) throw damaged();
  if (high === 0xe) {
    const isShort = code !== 0xe0;
    return { bytes: isShort ? 1 : 2, literals: isShort ? code & 15 : first + 16, match: 0, distance: 0 };
  }
  if (high === 0xf) {
    const isShort = code !== 0xf0;
    return { bytes: isShort ? 1 : 2, literals: 0, match: isShort ? code & 15 : first + 16, distance: 0 };
  }
  if (high === 0xa || high === 0xb) {
    const match = (((code & 7) << 2) | (first & 3)) + 3;
    return needed({ bytes: 3, literals: (code >> 3) & 3, match, distance: (first >> 2) | (second << 6) });
  }
  const [literals, match] = [code >> 6, ((code >> 3) & 7) + 3];
  if ((code & 7) === 7) return needed({ bytes: 3, literals, match, distance: first | (second << 8) });
  if ((code & 7) !== 6) return needed({ bytes: 2, literals, match, distance: ((code & 7) << 8) | first });
  // Without literals these codes mean something else, or nothing.
  if (literals === 0) throw damaged();
  return { bytes: 1, literals, match, distance: 0 };
}

function needed(step: Step): Step {
  if (step.distance === 0) throw damaged();
  return step;
}

/** Copies bytes of the output to its end; they may reach into what they make. */
export function repeat(out: Output, distance: number, length: number): void {
  if (length === 0) return;
  const { bytes } = out;
  if (distance === 0 || distance > out.filled) throw damaged();
  const end = out.filled + length;
  if (distance >= length) bytes.copyWithin(out.filled, out.filled - distance, end - distance);
  else for (let at = out.filled; at < end; at++) bytes[at] = bytes[at - distance] ?? 0;
  out.filled = end;
}

/** The error for anything wrong in a stream. */
export function damaged(): ImageError {
  return new ImageError('corrupt', 'The LZFSE data is damaged, or makes less or more than expected');
}
