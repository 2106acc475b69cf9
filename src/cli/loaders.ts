/** Loaders of the commands: a command is loaded only when it runs. */
import type { CommandModule } from './context.ts';
import type { CommandName } from './spec.ts';

/** Loads a command's implementation. */
export const LOADERS: Readonly<Record<CommandName, () => Promise<CommandModule>>> = {
  info: () => import('./commands/info.ts'),
  create: () => import('./commands/create.ts'),
  convert: () => import('./commands/convert.ts'),
  map: () => import('./commands/map.ts'),
  compare: () => import('./commands/compare.ts'),
  check: () => import('./commands/check.ts'),
  copy: () => import('./commands/copy.ts'),
  merge: () => import('./commands/merge.ts'),
  compact: () => import('./commands/compact.ts'),
  resize: () => import('./commands/resize.ts'),
  rebase: () => import('./commands/rebase.ts'),
  commit: () => import('./commands/commit.ts'),
  amend: () => import('./commands/amend.ts'),
  set: () => import('./commands/set.ts'),
  rename: () => import('./commands/rename.ts'),
  delete: () => import('./commands/delete.ts'),
  snapshot: () => import('./commands/snapshot.ts'),
  bitmap: () => import('./commands/bitmap.ts'),
  measure: () => import('./commands/measure.ts'),
  formats: () => import('./commands/formats.ts'),
  filters: () => import('./commands/filters.ts'),
  cache: () => import('./commands/cache.ts'),
  completion: () => import('./commands/completion.ts'),
};
