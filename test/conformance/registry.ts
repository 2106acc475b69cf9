/** Formats that the suites run over: the built-in ones, the toys, and the example's, registered as a user would. */
import * as example from '../../examples/VDPluginBoxes.mjs';
import { Plugins } from '../../src/plugin/plugins.ts';
import { MemoryProvider } from '../../src/storage/memory.ts';
import { withToys } from '../formats/toys/registry.ts';

/** See the head of this file. */
export const REGISTRY = withToys();
await new Plugins(REGISTRY, new MemoryProvider()).add('VDPluginBoxes.mjs', example);
