/** New raw disks: methods of the format, loaded when they are first used. */
export { measureRaw as measure, planRaw as plan, writeNewRaw as create } from './create.ts';
