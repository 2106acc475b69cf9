/** Programs that have QCOW2. */
import { type QemuInfo, qemu } from '../../peers/qemu.ts';
import { sevenZip } from '../../peers/seven-zip.ts';
import type { MakeWay, PeerKit } from '../peer-kit.ts';

/** QEMU looks for data files from where it runs, not from where the image is. */
const UNREACHED = 'external data file';

/** Hand-made images with what only QEMU has. */
const BEYOND_SEVEN_ZIP = ['differencing', 'subclusters', 'zstd', UNREACHED];

function reportedBy(info: QemuInfo): Readonly<Record<string, string>> {
  const { data } = info['format-specific'] ?? { data: {} };
  const flag = (name: string): string => (data[name] === true ? 'on' : 'off');
  return {
    cluster_size: String(info['cluster-size']),
    compat: String(data['compat']),
    refcount_bits: String(data['refcount-bits']),
    lazy_refcounts: flag('lazy-refcounts'),
    compression_type: String(data['compression-type']),
    extended_l2: flag('extended-l2'),
    data_file: String(data['data-file']),
    data_file_raw: flag('data-file-raw'),
  };
}

function cannotBySevenZip({ options, over }: MakeWay): string | null {
  if (over) return 'no backing files';
  if (options.includes('extended_l2')) return 'no subclusters';
  if (options.includes('data_file')) return 'no data files';
  return options.includes('zstd') ? 'no zstd' : null;
}

export const qemuKit: PeerKit = qemu({
  format: 'qcow2',
  checks: true,
  measures: true,
  backing: true,
  cannot: () => null,
  cannotRead: ({ name }) => (name === UNREACHED ? 'its data file is looked for in the working directory' : null),
  reported: reportedBy,
});

export const peers: readonly PeerKit[] = [
  qemuKit,
  sevenZip({
    format: 'qcow',
    cannot: cannotBySevenZip,
    longest: 1024 ** 3,
    cannotRead: ({ name }) => (BEYOND_SEVEN_ZIP.includes(name) ? 'a feature that it does not have' : null),
  }),
];
