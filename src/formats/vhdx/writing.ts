/** Code that only an image needs that is written. Loaded by state.ts. */
export { VhdxBlocks } from './blocks.ts';
export { locatorExpecting, locatorFor, planParent, readdressed, storeParent } from './relink.ts';
export { checkNewSize, checkShrink, resizeVhdx } from './resize.ts';
export { scanRoom } from './room.ts';
export { VhdxSession } from './session.ts';
