/** Failures of iterators, buffers and queues that have dedicated status codes in vd.h. */
import { type ErrorDetails, type ErrorKind, ImageError } from '../errors.ts';

const STATUS = {
  canceled: 'VERR_PDM_MEDIAEX_IOREQ_CANCELED',
  overflow: 'VERR_PDM_MEDIAEX_IOBUF_OVERFLOW',
  underrun: 'VERR_PDM_MEDIAEX_IOBUF_UNDERRUN',
  idConflict: 'VERR_PDM_MEDIAEX_IOREQID_CONFLICT',
  idNotFound: 'VERR_PDM_MEDIAEX_IOREQID_NOT_FOUND',
  requestState: 'VERR_PDM_MEDIAEX_IOREQ_INVALID_STATE',
  state: 'VERR_INVALID_STATE',
  noMemory: 'VERR_NO_MEMORY',
  handle: 'VERR_INVALID_HANDLE',
} as const;

/** A failure with one of these statuses. */
export function stateError(
  state: keyof typeof STATUS,
  kind: ErrorKind,
  message: string,
  details: ErrorDetails = {},
): ImageError {
  return new ImageError(kind, message, { ...details, status: STATUS[state] });
}

/** The error of a cancelled request. */
export function cancelledError(cause: unknown = undefined): ImageError {
  return stateError('canceled', 'aborted', 'The request was cancelled', cause === undefined ? {} : { cause });
}
