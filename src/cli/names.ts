/** Names of files in messages: the way that they were typed. */
import { basename, dirname } from 'node:path';
import { defaultProvider } from '#local-storage';

/** A name for a message: as typed, or beside the file that was typed, as that would be. Other names stay as they are. */
export function asTypedBeside(typed: string, name: string): string {
  const provider = defaultProvider();
  const whole = provider.resolve(typed, '');
  if (name === whole) return typed;
  if (dirname(name) !== dirname(whole)) return name;
  return typed.slice(0, typed.lastIndexOf(basename(typed))) + basename(name);
}
