/** `vdkit info`: what an image says of itself. */
import { inspect } from '../../disk/inspect.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { imageName, openOptions } from '../images.ts';
import { reportDocument, reportText } from '../report.ts';

/** Runs `info IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const wantsChain = context.options.flag('backing-chain');
  const report = await inspect(imageName(context, 0), { ...openOptions(context), chain: wantsChain });
  const chain = report.chain ?? [];
  if (context.json) {
    const parents = wantsChain ? { chain: chain.map(reportDocument) } : {};
    await context.printJson({ schema: 'vdkit/info/1', ...reportDocument(report), ...parents });
  } else {
    const reports = wantsChain ? chain : [report];
    await context.print(reports.map(reportText).join('\n\n'));
  }
  const warnings = wantsChain ? chain.flatMap((one) => one.warnings) : report.warnings;
  for (const warning of warnings) context.warn(warning);
  return EXIT.done;
}
