/** Check and repair of QCOW images. */
import { ChangeGuard } from '../../blocks/guarded.ts';
import { type Decode, mendTwoLevel, surveyTwoLevel } from '../../blocks/two-level-check.ts';
import { readTwoLevel } from '../../blocks/two-level-state.ts';
import { isImageError, throwIfAborted } from '../../errors.ts';
import type { FormatCheckOptions } from '../../image/contract.ts';
import { type ImageFiles, mainFile } from '../../image/files.ts';
import { FindingList } from '../../image/finding-list.ts';
import type { Finding } from '../../image/findings.ts';
import type { OperationOptions, Storage } from '../../storage/contract.ts';
import { readHeader } from './header.ts';
import { type QcowShape, shapeOf } from './shape.ts';
import { streamReader } from './streams.ts';

/** Finds damage in an image. */
export async function check(files: ImageFiles, options: FormatCheckOptions): Promise<readonly Finding[]> {
  const storage = mainFile(files);
  const shape = shapeOf(await readHeader(storage, options));
  const list = new FindingList();
  await surveyTwoLevel(storage, shape, list, { ...options, decode: await decoder(storage, shape, list, options) });
  return list.list;
}

/** Clusters decoded at a time. */
const TOGETHER = 64;

/** Tells by decoding which compressed clusters are damaged: nothing else shows it. */
async function decoder(
  storage: Storage,
  shape: QcowShape,
  list: FindingList,
  { signal }: OperationOptions,
): Promise<Decode> {
  const guard = new ChangeGuard(storage.label);
  const state = await readTwoLevel(storage, shape, { mode: 'read', guard, signal });
  const reader = streamReader(storage, () => state);
  const { clusterSize, virtualSize } = shape;
  const decode = async (cluster: number): Promise<void> => {
    const guestOffset = cluster * clusterSize;
    const bytes = new Uint8Array(Math.min(clusterSize, virtualSize - guestOffset));
    try {
      await reader.read(guestOffset, [bytes]);
    } catch (error) {
      if (!isImageError(error) || error.kind !== 'corrupt') throw error;
      const say = (): string => `Compressed cluster ${cluster} cannot be decoded.`;
      list.add('corruption', 'stream-broken', say, { guestOffset, repairable: false });
    }
  };
  return async (clusters) => {
    for (let at = 0; at < clusters.length; at += TOGETHER) {
      throwIfAborted(signal, 'The check');
      await Promise.all(clusters.slice(at, at + TOGETHER).map(decode));
    }
  };
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
