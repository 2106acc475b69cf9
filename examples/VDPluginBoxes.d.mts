import type { PluginModule } from 'vdkit';

export const VDPluginLoad: PluginModule['VDPluginLoad'];
