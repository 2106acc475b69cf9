/** A disk that deviates from the model. */
export class Mismatch extends Error {}
