/**
 * Filters transform a disk's bytes between the guest and the medium. They work on offsets of the disk, not on images:
 * the disk applies them once to each request, so that chains, merges and padding work on bytes in their stored form.
 */
import type { MaybePromise, OperationOptions } from '../storage/contract.ts';
import type { Config, ConfigKey } from './contract.ts';

/** Source of keys and passwords: vd.h's CRYPTO. Secrets must not be kept longer than needed. */
export interface KeySupply {
  /** The bytes of a key. They belong to the supply and may be read only until `releaseKey`. Throws `not-found`. */
  key(id: string, options?: OperationOptions): Promise<Uint8Array>;
  releaseKey(id: string): void;
  /** The password of a key store. */
  password(id: string, options?: OperationOptions): Promise<string>;
  releasePassword(id: string): void;
  /** Called when the filter has changed its key store, which should be saved. */
  saveKeyStore(bytes: Uint8Array): Promise<void>;
  /** Receives the cipher and the data encryption key of an opened key store, for display. */
  parameters?(cipher: string, key: Uint8Array): void;
}

/** Values of a filter's config keys. */
export type FilterConfig = Config;

/** Options for a filter instance. */
export interface FilterOpenOptions {
  /** Checked: only listed keys of the listed types, and all mandatory ones. */
  readonly config: FilterConfig;
  /** Open for information only: no key is needed, and no data will pass. vd.h's VD_FILTER_FLAGS_INFO. */
  readonly info: boolean;
  readonly keys: KeySupply | null;
  /** Bytes of the disk. */
  readonly diskSize: number;
}

/** A kind of filter: vd.h's VDFILTERINFO. */
export interface Filter {
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  readonly configKeys: readonly ConfigKey[];
  /** Throws `invalid-argument` for unusable values, `not-found` for missing keys. */
  open(options: FilterOpenOptions): MaybePromise<FilterInstance>;
}

/**
 * A filter instance. Ranges are whole sectors of 512 bytes, at offsets of the disk; the transformation of a sector must
 * depend only on its bytes and offset and keep its length. `decode` reverses `encode`. The bytes belong to the filter:
 * it may change them in place and return them, or return others. Calls may overlap.
 */
export interface FilterInstance {
  /** Transforms guest data into its stored form. */
  encode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array>;
  /** Transforms stored data into guest data. Throws `corrupt` for undecodable data. */
  decode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array>;
  /** Called when no other call is running or will follow. */
  close(): MaybePromise<void>;
}
