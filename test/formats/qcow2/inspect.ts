/** QEMU's verdict on a QCOW2 image left by a model: the disk, its oldest and newest snapshot, and its data file. */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readHeader } from '../../../src/formats/qcow2/open.ts';
import { fits } from '../../model/content.ts';
import type { ClosedImage } from '../../model/outcome.ts';
import { inspectDisk, type RunQemu } from '../../model/qemu.ts';

export async function inspect(run: RunQemu, folder: string, image: ClosedImage): Promise<void> {
  const { provider, name, content, states } = image;
  const storage = await provider.open(name, 'read');
  const { dataFileName, autoclear } = await readHeader(storage);
  await storage.close();
  const path = join(folder, basename(name));
  // QEMU looks for data files from where it runs, so it is told where this one is.
  const data = dataFileName === null ? [] : [`data-file.driver=file,data-file.filename=${join(folder, dataFileName)}`];
  const it = ['--image-opts', ['driver=qcow2,file.driver=file', `file.filename=${path}`, ...data].join(',')];
  await inspectDisk(run, it, { folder, format: 'qcow2', image });
  const raw = join(folder, 'read.raw');
  // The oldest and the newest: each takes a process.
  for (const { name: state, content: kept } of states.filter((_, n) => n === 0 || n === states.length - 1)) {
    await run('convert', '-l', `snapshot.name=${state}`, '-O', 'raw', ...it, raw);
    // It copies as many bytes as the disk has now.
    const found = new Uint8Array(await readFile(raw));
    fits(found.subarray(0, kept.bytes.length), kept, 0, `QEMU's ${state}`);
  }
  if (dataFileName !== null && (autoclear & 2n) !== 0n) {
    fits(new Uint8Array(await readFile(join(folder, dataFileName))), content, 0, 'the data file by itself');
  }
}
