/** Names that nobody can foresee. The module behind them is loaded on first need: it takes a start two milliseconds. */

/** So many random bytes in hexadecimal digits. */
export function randomHex(bytes: number): string {
  return process.getBuiltinModule('node:crypto').randomBytes(bytes).toString('hex');
}
