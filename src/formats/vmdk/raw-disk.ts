/**
 * Descriptions of disks of the host, as VirtualBox makes them: `fullDevice` has one extent, the device;
 * `partitionedDevice` has extents on the device for some partitions, holes for the others, and a private copy of the
 * partition tables in a file beside it.
 */
import { SECTOR } from '../../binary/numbers.ts';
import { assert } from '../../errors.ts';
import type { FormatCreateOptions } from '../../image/contract.ts';
import type { RawArea, RawDisk } from '../../image/raw-disk.ts';
import type { NewFiles } from '../../storage/contract.ts';
import { newDescriptor } from './create.ts';
import { type ExtentLine, formatExtent } from './descriptor/extents.ts';
import { KEYS } from './descriptor/facts.ts';
import { baseName, planVmdk } from './plan.ts';

/** Writes the descriptor of a disk, and the file of its partition tables, and flushes them. */
export async function describeDevice(files: NewFiles, disk: RawDisk, options: FormatCreateOptions): Promise<void> {
  const { size, areas } = disk;
  const plan = planVmdk({ ...options, size, variant: ['fixed'] }, files.name);
  const text = newDescriptor(plan, options, files);
  const copies = areas?.flatMap(({ bytes }) => bytes ?? []) ?? [];
  const tables = `${baseName(files.name)}-pt.vmdk`;
  text.set(KEYS.createType, areas === null ? 'fullDevice' : 'partitionedDevice', files.name);
  const whole: RawArea = { start: 0, length: size, kind: 'device' };
  let copied = 0;
  const lines = (areas ?? [whole]).map((area) => {
    const line = lineOf(area, disk, { file: tables, offset: copied / SECTOR });
    copied += area.bytes?.length ?? 0;
    return formatExtent(line);
  });
  text.setExtents(lines, files.name);
  if (copies.length > 0) {
    const part = await files.part(tables);
    let at = 0;
    for (const bytes of copies) {
      await part.write(at, bytes);
      at += bytes.length;
    }
    await part.flush();
    await part.close();
  }
  await files.main.write(0, text.bytes());
  await files.main.flush();
}

function lineOf(
  { start, length, kind, bytes }: RawArea,
  { device, writable }: RawDisk,
  table: { readonly file: string; readonly offset: number },
): ExtentLine {
  assert(length % SECTOR === 0 && start % SECTOR === 0, 'areas are whole sectors');
  const sectors = length / SECTOR;
  if (kind === 'hidden') return { access: 'RW', sectors, type: 'ZERO', file: null, offset: 0, rest: [] };
  if (kind === 'copy') {
    assert(bytes?.length === length, 'the bytes of a copied area are there');
    return { access: 'RW', sectors, type: 'FLAT', ...table, rest: [] };
  }
  const access = writable ? 'RW' : 'RDONLY';
  return { access, sectors, type: 'FLAT', file: device, offset: start / SECTOR, rest: [] };
}
