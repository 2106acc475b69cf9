/** A digest of text that tells states apart. Not collision-resistant against an attacker who chooses the text. */

const SEEDS = [0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35, 0x27d4_eb2f] as const;
const PRIMES = [0x0100_0193, 0x0132_2d15, 0x5bd1_e995, 0x2127_599b] as const;

/** 128 bits of the text, as a GUID. Never the null GUID. */
export function digestGuid(text: string): string {
  const lanes = Uint32Array.from(SEEDS);
  for (const byte of new TextEncoder().encode(text)) {
    for (const [lane, prime] of PRIMES.entries()) {
      const mixed = (lanes[lane] ?? 0) ^ byte ^ ((lanes[(lane + 1) % 4] ?? 0) >>> 13);
      lanes[lane] = Math.imul(mixed, prime);
    }
  }
  for (let round = 0; round < 8; round++) {
    for (const [lane, prime] of PRIMES.entries()) {
      const mixed = (lanes[lane] ?? 0) ^ ((lanes[(lane + 3) % 4] ?? 0) >>> 15);
      lanes[lane] = Math.imul(mixed ^ (mixed >>> 16), prime) + 1;
    }
  }
  const hex = [...lanes].map((lane) => lane.toString(16).padStart(8, '0')).join('');
  // Version 8: made in a way of one's own (RFC 9562).
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20)].join('-');
}
