/** QED images of all options for the model suite. QEMU takes no tables of one cluster. */
import type { ModelKit } from '../kit.ts';
import { twoLevelModels } from '../two-level-models.ts';

export const models: ModelKit = twoLevelModels({
  format: 'qed',
  starts: ['empty', 'empty', 'converted'],
  clusters: [4096, 4096, 8192, 65_536],
  tables: [2, 2, 4, 16],
  contentOnly: false,
});
