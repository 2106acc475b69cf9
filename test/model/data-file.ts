/** Name of external data files, beside the image. */
export const DATA_FILE = 'image.data';
