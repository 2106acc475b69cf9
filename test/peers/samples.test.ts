/** Images that are put together by hand for the test suites: other programs read the same in them, as the kits tell. */
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { expect, it } from 'vitest';
import { inspect } from '../../src/index.ts';
import { way } from '../formats/peer-kit.ts';
import { expectedContent } from '../golden/content.ts';
import type { Sample } from '../hostile/descriptor.ts';
import { filesOf } from '../hostile/sample-files.ts';
import {
  describePairings,
  expectPeerReads,
  expectPeerSize,
  expectSameDisk,
  type Pairing,
  useFolder,
} from './both-sides.ts';

/** Content is compared up to here. */
const MOST = 64 * 1024 * 1024;

function ableToRead({ rules, samples }: Pairing): readonly Sample[] {
  return samples.filter((sample) => (rules.cannotRead?.(sample) ?? null) === null);
}

/** The option for units as large as those of this image: a program may round a disk up to them. */
async function unitWords({ format: { configKeys } }: Pairing, path: string): Promise<string> {
  const key = configKeys.find(({ role }) => role === 'unit')?.name ?? '';
  const { config } = await inspect(path, { allow: ['same-directory'] });
  const value = config?.[key];
  return value === undefined ? '' : `${key}=${value}`;
}

await describePairings(
  'hand-made images',
  (pairing) => ableToRead(pairing).length > 0,
  (pairing) => {
    const { peer, rules, samples } = pairing;
    const at = useFolder();
    const make = async (sample: Sample) => {
      for (const { name, bytes } of filesOf(sample, at('image'))) {
        await mkdir(dirname(name), { recursive: true });
        await writeFile(name, bytes);
      }
      return { path: at('image'), way: way(await unitWords(pairing, at('image'))) };
    };
    const contentOf = ({ content, virtualSize }: Sample): Uint8Array => {
      return content instanceof Uint8Array ? content : expectedContent(content, 0, virtualSize);
    };

    it.each(ableToRead(pairing))('$name', async (sample) => {
      const image = await make(sample);
      if (sample.virtualSize > MOST) {
        await peer.check?.(image);
        await expectPeerSize(peer, image, sample.virtualSize);
        return;
      }
      await writeFile(at('expected.raw'), contentOf(sample));
      await expectPeerReads(peer, image, contentOf(sample), at('expected.raw'));
      await expectSameDisk(pairing, image, at('expected.raw'));
    });

    const refused = samples.flatMap((sample) => {
      const why = rules.cannotRead?.(sample) ?? null;
      return why === null || sample.virtualSize > MOST ? [] : [{ name: sample.name, why, sample }];
    });
    it.runIf(refused.length > 0).each(refused)('cannot read $name: $why', async ({ sample }) => {
      const image = await make(sample);
      await writeFile(at('expected.raw'), contentOf(sample));
      const reading = expectPeerReads(peer, image, contentOf(sample), at('expected.raw'));
      await expect(reading).rejects.toThrow();
    });
  },
);
