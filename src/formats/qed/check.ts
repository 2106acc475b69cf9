/** Check and repair of QED images: the tables, and the mark of an image that was not closed. */
import { mendTwoLevel, surveyTwoLevel } from '../../blocks/two-level-check.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { FEATURE, HEADER } from './layout.ts';
import { shapeOf } from './shape.ts';

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  return survey(mainFile(files), options);
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const findings = await survey(storage, options);
  if (findings.some(({ repairable }) => repairable)) await recover(storage, options);
  return findings;
}

async function survey(storage: Storage, options: OperationOptions): Promise<readonly Finding[]> {
  const header = await readHeader(storage, options);
  const list = new FindingList();
  if (header.needCheck) list.add('warning', 'not-closed', 'The image was not closed by the program that wrote it.');
  await surveyTwoLevel(storage, shapeOf(header), list, options);
  return list.list;
}

/** Repairs an image whose writer was cut off, and takes the mark off unless something is left that cannot be repaired. */
export async function recover(storage: Storage, options: OperationOptions): Promise<void> {
  const header = await readHeader(storage, options);
  const { tangled } = await mendTwoLevel(storage, shapeOf(header), options);
  await storage.flush();
  if (!header.needCheck || tangled) return;
  const sector = header.sector.slice();
  HEADER.put(sector, 'features', header.header.features & ~FEATURE.needCheck);
  await storage.write(0, sector);
  await storage.flush();
}
