/** Bytes of a unit that the options of a way name by this key. */
import type { MakeWay } from '../formats/peer-kit.ts';

export function unitOfWay({ options }: Pick<MakeWay, 'options'>, key: string | undefined, usual: number): number {
  const pair = options.split(',').find((one) => one.startsWith(`${key}=`));
  return pair === undefined ? usual : Number(pair.split('=')[1]);
}
