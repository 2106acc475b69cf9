/** Unpredictable names. The module behind them is loaded on first use: it costs two milliseconds of a start. */

/** Random bytes as hexadecimal digits. */
export function randomHex(bytes: number): string {
  return process.getBuiltinModule('node:crypto').randomBytes(bytes).toString('hex');
}
