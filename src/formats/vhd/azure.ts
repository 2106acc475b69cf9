/** Azure takes disks of whole MiB. */
export const AZURE_UNIT = 1024 * 1024;
