/** QCOW2: QEMU's disk image. */
import type { Format, ProbeAnswer, ProbeInput } from '../../image/contract.ts';
import type { OpenMode, Source, Storage } from '../../storage/contract.ts';
import { checkQcow2 } from './check.ts';
import { openQcow2 } from './image.ts';
import { HEADER, MAGIC } from './layout.ts';
import { repairQcow2 } from './repair.ts';

/** The QCOW2 format, versions 2 and 3, read with all that its files can hold but encryption. */
export const qcow2: Format = {
  name: 'qcow2',
  aliases: [],
  title: 'QEMU Copy-On-Write, version 2 and 3',
  capabilities: {
    uuid: false,
    createFixed: false,
    createDynamic: false,
    createSplit: false,
    diff: false,
    preferred: false,
    read: true,
    write: false,
    discard: false,
    resize: false,
    compact: false,
    check: true,
    repair: true,
  },
  extensions: [
    { extension: 'qcow2', type: 'hdd' },
    { extension: 'qcow', type: 'hdd' },
    { extension: 'qc2', type: 'hdd' },
  ],
  configKeys: [],
  variants: [],
  probe,
  async open(source, options) {
    const storage = await source.provider.open(source.name, options.mode);
    try {
      return await openQcow2(storage, source, options);
    } catch (error) {
      await storage.close();
      throw error;
    }
  },
  async check(source, options) {
    return withStorage(source, 'read', (storage) => checkQcow2(storage, options));
  },
  async repair(source, options) {
    return withStorage(source, 'write', (storage) => repairQcow2(storage, options));
  },
};

async function withStorage<T>(source: Source, mode: OpenMode, run: (storage: Storage) => Promise<T>): Promise<T> {
  const storage = await source.provider.open(source.name, mode);
  try {
    return await run(storage);
  } finally {
    await storage.close();
  }
}

function probe({ head }: ProbeInput): ProbeAnswer {
  const end = HEADER.fields.version.offset + HEADER.fields.version.size;
  if (head.length < end) return { match: 'no', reason: 'shorter than a QCOW2 header' };
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  if (view.getUint32(0) !== MAGIC) return { match: 'no', reason: 'no QCOW2 signature' };
  const version = view.getUint32(HEADER.fields.version.offset);
  // Version 1 is another format with the same signature. Later ones are not known, but nothing else either.
  if (version < 2) return { match: 'no', reason: 'the signature of QCOW, but not of version 2 or later' };
  return { match: 'yes', reason: 'the QCOW2 signature QFI\\xfb', detail: `QCOW2 version ${version}`, type: 'hdd' };
}
