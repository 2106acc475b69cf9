/** The first option of a VISO file, with the UUID of the image: VirtualBox User Manual, "Creating ISO images on the fly". */
export const MARKER =
  /^\s*--iprt-iso-maker-file-marker(-bourne(?:-sh)?|-ms(?:-crt)?)?[=:\s]\s*[{"']?([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})/i;
/** Bytes that VirtualBox examines. */
export const LOOKED_AT = 1024;
