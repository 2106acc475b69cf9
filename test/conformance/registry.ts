/** Formats that the suites run over: the built-in ones, and the example's, registered as a user would. */
import * as example from '../../examples/VDPluginBoxes.mjs';
import { defaultRegistry } from '../../src/formats/index.ts';
import { Plugins } from '../../src/plugin/plugins.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';

/** See the head of this file. */
export const REGISTRY = defaultRegistry();
await new Plugins(REGISTRY, new MemoryProvider()).add('VDPluginBoxes.mjs', example);
