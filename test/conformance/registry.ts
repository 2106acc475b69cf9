/** What the suites run over: the built-in formats, and that of the example, as somebody would add one of their own. */
import * as example from '../../examples/VDPluginBoxes.mjs';
import { defaultRegistry } from '../../src/formats/index.ts';
import { Plugins } from '../../src/plugin/plugins.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';

/** See the head of this file. */
export const REGISTRY = defaultRegistry();
await new Plugins(REGISTRY, new MemoryProvider()).add('VDPluginBoxes.mjs', example);
