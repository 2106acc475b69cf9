/**
 * Filters: what transforms a disk's bytes between the guest and the medium. They know offsets on the disk, not images:
 * the disk applies them once to each request, so that chains, merges and padding work on bytes in their stored form.
 */
import type { MaybePromise, OperationOptions } from '../storage/contract.ts';
import type { ConfigKey } from './contract.ts';

/** Gives out keys and passwords: vd.h's CRYPTO. What is handed out must not be kept longer than it is needed. */
export interface KeySupply {
  /** The bytes of a key. They belong to the supply, and are only read until `releaseKey`. Throws `not-found`. */
  key(id: string, options?: OperationOptions): Promise<Uint8Array>;
  releaseKey(id: string): void;
  /** The password of a key store. */
  password(id: string, options?: OperationOptions): Promise<string>;
  releasePassword(id: string): void;
  /** The filter changed its key store, which shall be kept. */
  saveKeyStore(bytes: Uint8Array): Promise<void>;
  /** The cipher and the data encryption key of a key store that was opened, for whoever wants to see them. */
  parameters?(cipher: string, key: Uint8Array): void;
}

/** Values of a filter's config keys. */
export type FilterConfig = Readonly<Record<string, string | number | Uint8Array>>;

/** What a filter is made from. */
export interface FilterOpenOptions {
  /** Checked: only keys that the filter lists, of the type that it lists, and all that are mandatory. */
  readonly config: FilterConfig;
  /** Only what it is shall be known: no key is needed, and no byte will pass. vd.h's VD_FILTER_FLAGS_INFO. */
  readonly info: boolean;
  readonly keys: KeySupply | null;
  /** Bytes of the disk. */
  readonly diskSize: number;
}

/** A kind of filter: vd.h's VDFILTERINFO, and what makes one. */
export interface Filter {
  readonly name: string;
  /** One line for people. */
  readonly title: string;
  readonly configKeys: readonly ConfigKey[];
  /** Throws `invalid-argument` for values that it cannot use, `not-found` for keys that are not there. */
  open(options: FilterOpenOptions): MaybePromise<FilterInstance>;
}

/**
 * A filter at work. Ranges are whole sectors of 512 bytes, at offsets of the disk; each sector must be transformed by
 * itself, in a way that depends on nothing but its bytes and its offset, and its length stays. `decode` undoes `encode`.
 * The bytes belong to the filter: it may change them in place and return them, or return others. Calls may overlap.
 */
export interface FilterInstance {
  /** From what the guest writes to what is stored. */
  encode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array>;
  /** From what is stored to what the guest reads. Throws `corrupt` for what it cannot read. */
  decode(offset: number, bytes: Uint8Array): MaybePromise<Uint8Array>;
  /** No call runs any more, and none will come. */
  close(): MaybePromise<void>;
}
