/** Names of formats in the header: those of QEMU's drivers. */

/** Drivers that have another name than the format has here. */
const DRIVERS: readonly (readonly [format: string, driver: string])[] = [['vhd', 'vpc']];

/** The stored form of a format's name. */
export function encodeFormat(format: string): Uint8Array {
  const driver = DRIVERS.find(([name]) => name === format)?.[1] ?? format;
  return new TextEncoder().encode(driver);
}

/** The format that a stored name stands for. */
export function decodeFormat(bytes: Uint8Array): string {
  const driver = new TextDecoder().decode(bytes);
  return DRIVERS.find(([, name]) => name === driver)?.[0] ?? driver;
}
