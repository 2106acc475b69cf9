/**
 * `vdkit check`: consistency check and repair.
 */

import { hex, printable } from '../../errors.ts';
import { type Finding, summarize } from '../../image/findings.ts';
import { type CheckReport, checkImage } from '../../operations/check.ts';
import type { CommandContext } from '../context.ts';
import { UsageError } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';

const CLEAN = 0;
const CORRUPT = 2;
const LEAKS = 3;

/** Runs `check IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const [repair, dryRun] = [context.options.flag('repair'), context.options.flag('dry-run')];
  if (dryRun && !repair) {
    throw new UsageError('--dry-run requires --repair', 'Add --repair; a check without it never changes anything.');
  }
  const { parent: _parent, parentFormat: _parentFormat, ...options } = openOptions(context, NO_PARENT);
  await using place = await placedImage(context, 0, repair && !dryRun ? 'write' : 'read');
  const image = place.name;
  const report = await checkImage(place.source, {
    ...options,
    repair,
    dryRun,
    beforeRepair: async (findings) => {
      context.afterCancel = `${printable(image)} is no worse than before; run the command again to continue`;
      if (!context.json && !context.quiet) await context.print(planText(image, findings));
    },
  });
  if (context.json) await context.printJson({ schema: 'vdkit/check/1', ...document(report) });
  else if (!context.quiet) await context.print(reportText(image, report, { repair, dryRun }));
  const { corruptions, leaks } = summarize(report.findings);
  return corruptions > 0 ? CORRUPT : leaks > 0 ? LEAKS : CLEAN;
}

/** No option of this command names a parent. */
const NO_PARENT = { format: 'format', parent: 'parent' } as const;

function document({ clean, findings, repaired, file, format, repairs }: CheckReport): Record<string, unknown> {
  return {
    clean,
    findings: findings.map(findingDocument),
    repaired,
    file,
    format,
    repairs: repairs.map(findingDocument),
  };
}

function findingDocument(finding: Finding): Record<string, unknown> {
  const { severity, code, message, fileOffset, guestOffset, repairable } = finding;
  return { severity, code, message, fileOffset, guestOffset, repairable };
}

/** The plan, printed before a repair begins. */
function planText(image: string, findings: readonly Finding[]): string {
  const lines = findings.map((finding) => `${line(finding)}${finding.repairable ? '; will be repaired' : ''}`);
  return [...lines, printable(`${image}: ${counts(findings)}; repairing now.`)].join('\n');
}

function reportText(
  image: string,
  report: CheckReport,
  { repair, dryRun }: { readonly repair: boolean; readonly dryRun: boolean },
): string {
  const { findings, repaired, repairs } = report;
  const mark = (finding: Finding): string => (dryRun && finding.repairable ? '; would be repaired' : '');
  const lines = findings.map((finding) => `${line(finding)}${mark(finding)}`);
  const done = repaired ? 'repaired; remaining: ' : '';
  const nothing = repair && repairs.length === 0 && findings.length > 0;
  const rest = nothing
    ? '; none can be repaired, so nothing was changed'
    : dryRun
      ? `; a repair would fix ${repairs.length} of ${findings.length}`
      : '';
  return [...lines, printable(`${image}: ${done}${counts(findings)}${rest}.`)].join('\n');
}

function line({ severity, code, message, fileOffset, guestOffset }: Finding): string {
  const places = [
    ...(fileOffset === null ? [] : [`offset ${hex(fileOffset)}`]),
    ...(guestOffset === null ? [] : [`guest offset ${hex(guestOffset)}`]),
  ];
  const where = places.length === 0 ? '' : ` (${places.join(', ')})`;
  return printable(`${severity}: ${code}: ${message}${where}`);
}

function counts(findings: readonly Finding[]): string {
  const { corruptions, leaks, warnings } = summarize(findings);
  const parts = [
    [corruptions, 'corruption'],
    [leaks, 'leak'],
    [warnings, 'warning'],
  ] as const;
  const words = parts.flatMap(([count, word]) => (count === 0 ? [] : [`${count} ${word}${count === 1 ? '' : 's'}`]));
  return words.length === 0 ? 'no errors found' : words.join(', ');
}
