/** Opening raw disks: the method of the format, loaded when it is first used. */
export { openRaw as open } from './image.ts';
