/** Check and repair of QCOW images. */
import { mendTwoLevel, surveyTwoLevel } from '../../blocks/two-level-check.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import { readHeader } from './header.ts';
import { shapeOf } from './shape.ts';

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const shape = shapeOf(await readHeader(storage, options));
  const { list } = await surveyTwoLevel(storage, shape, new FindingList(), options);
  return list.list;
}

/** Repairs what `check` finds and can be repaired. Returns the findings; a clean image is not changed. */
export async function repair(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const findings = await check(files, options);
  if (!findings.some(({ repairable }) => repairable)) return findings;
  await mendTwoLevel(storage, shapeOf(await readHeader(storage, options)), options);
  await storage.flush();
  return findings;
}
