/** Faults in the structures of a VHDX image. */
import { type ErrorDetails, ImageError } from '../../errors.ts';

/** An error about one field. */
export function fault(
  kind: 'corrupt' | 'unsupported' | 'limit' | 'invalid-format',
  message: string,
  details: ErrorDetails,
): ImageError {
  return new ImageError(kind, message, { status: 'VERR_VD_GEN_INVALID_HEADER', ...details });
}
