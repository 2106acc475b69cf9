/** QEMU's verdict on an image left by a run: neither errors nor leaks, the same bytes, the same map. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { Extent } from '../../src/disk/device.ts';
import { readHeader } from '../../src/formats/qcow2/open.ts';
import { openDisk } from '../../src/operations/open.ts';
import type { PeerProgram } from '../peers/peers.ts';
import { peerRuns } from '../peers/qemu.ts';
import { expectSameMap } from '../peers/same-map.ts';
import { fits } from './content.ts';
import { fileBytes } from './extents.ts';
import { Mismatch } from './mismatch.ts';
import type { ClosedImage } from './outcome.ts';

/** Writes the files into a folder for that, and removes it again. */
export function inspectWithQemu(qemuImg: PeerProgram) {
  return async (image: ClosedImage): Promise<void> => {
    const { provider, name } = image;
    const folder = await mkdtemp(join(tmpdir(), 'vdkit-model-'));
    try {
      for await (const file of provider.list(provider.directory(name))) {
        await writeFile(join(folder, basename(file)), await fileBytes({ provider, name: file }));
      }
      await inspect(qemuImg, folder, image);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
}

async function inspect(qemuImg: PeerProgram, folder: string, image: ClosedImage): Promise<void> {
  const { provider, name, content, states } = image;
  const storage = await provider.open(name, 'read');
  const { dataFileName, autoclear } = await readHeader(storage);
  await storage.close();
  const path = join(folder, basename(name));
  // QEMU looks for data files from where it runs, so it is told where this one is.
  const data = dataFileName === null ? [] : [`data-file.driver=file,data-file.filename=${join(folder, dataFileName)}`];
  const it = ['--image-opts', ['driver=qcow2,file.driver=file', `file.filename=${path}`, ...data].join(',')];
  const run = (...args: string[]): Promise<string> =>
    qemuImg.run(...args).catch((error: Error) => {
      throw new Mismatch(`QEMU does not take the image: ${error.message}`);
    });
  await run('check', '-q', ...it);
  const raw = join(folder, 'read.raw');
  await run('convert', '-O', 'raw', ...it, raw);
  fits(new Uint8Array(await readFile(raw)), content, 0, 'QEMU');
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
  await using disk = await openDisk(path, { format: 'qcow2', allow: ['same-directory'] });
  const ours: Extent[] = [];
  for await (const extent of disk.extents()) ours.push(extent);
  try {
    const theirs = JSON.parse(await run('map', '--output=json', ...it));
    expectSameMap(ours, peerRuns(theirs, { backing: true }));
  } catch (error) {
    throw error instanceof Mismatch ? error : new Mismatch(`QEMU maps it differently: ${String(error).slice(0, 600)}`);
  }
}
