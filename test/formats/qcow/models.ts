/** QCOW images of all options for the model suite. */
import type { ModelKit } from '../kit.ts';
import { twoLevelModels } from '../two-level-models.ts';

export const models: ModelKit = twoLevelModels({
  format: 'qcow',
  starts: ['empty', 'converted', 'compressed'],
  clusters: [512, 512, 4096, 4096, 65_536],
  contentOnly: true,
});
