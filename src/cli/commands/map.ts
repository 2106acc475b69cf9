/**
 * `vdkit map`: allocation map of a disk. Printed as it is found, so memory stays small for disks of any size.
 */
import type { Extent } from '../../disk/device.ts';
import { ImageError, printable } from '../../errors.ts';
import { openDisk } from '../../operations/open.ts';
import type { CommandContext } from '../context.ts';
import { EXIT } from '../failure.ts';
import { openOptions, placedImage } from '../images.ts';
import { jsonText } from '../output.ts';
import { parseSize } from '../size.ts';

/** Runs `map IMAGE`. */
export async function run(context: CommandContext): Promise<number> {
  const start = context.options.size('start') ?? 0;
  const length = context.options.text('length');
  const wanted = length === undefined ? Number.POSITIVE_INFINITY : parseSize(length, '--length');
  const options = openOptions(context);
  await using place = await placedImage(context, 0, 'read');
  await using disk = await openDisk(place.source, options);
  for (const warning of disk.warnings) context.warn(warning);
  if (start > disk.size) {
    throw new ImageError('out-of-bounds', '--start is past the end of the disk', {
      path: disk.label,
      found: start,
      expected: `at most ${disk.size}`,
      hint: 'Choose a smaller --start.',
    });
  }
  const extents = disk.extents(start, Math.min(start + wanted, disk.size), { damaged: true, signal: context.signal });
  const damaged = context.json ? await printDocument(context, extents) : await printTable(context, extents, disk.size);
  return damaged ? EXIT.damaged : EXIT.done;
}

/** Passes each extent's text to the output; waits only while a piece is being written. True: some are damaged. */
async function printAll(
  context: CommandContext,
  extents: AsyncIterable<Extent>,
  textOf: (extent: Extent) => string,
): Promise<boolean> {
  let damaged = false;
  for await (const extent of extents) {
    damaged ||= extent.state === 'damaged';
    const writing = context.output.add(textOf(extent));
    if (writing === undefined) continue;
    await writing;
    context.signal.throwIfAborted();
  }
  return damaged;
}

async function printDocument(context: CommandContext, extents: AsyncIterable<Extent>): Promise<boolean> {
  const quoted = cached(jsonText);
  let separator = '\n';
  await context.output.add('{\n  "schema": "vdkit/map/1",\n  "extents": [');
  context.endDocument = (failure) => `\n  ],\n  "error": ${jsonText(failure)}\n}\n`;
  const damaged = await printAll(context, extents, (extent) => {
    const { offset, length, state, image, depth, compressed, fileOffset } = extent;
    const file = extent.file === null ? null : quoted(extent.file);
    const text =
      `${separator}    {"offset":${offset},"length":${length},"state":"${state}","image":${image},` +
      `"depth":${depth},"compressed":${compressed},"file":${file},"fileOffset":${fileOffset}${reasonText(extent)}}`;
    separator = ',\n';
    return text;
  });
  context.endDocument = null;
  await context.output.add('\n  ]\n}\n');
  await context.output.flush();
  return damaged;
}

/** Only damage has a reason. */
function reasonText({ reason }: Extent): string {
  return reason === undefined ? '' : `,"reason":${jsonText(reason)}`;
}

async function printTable(context: CommandContext, extents: AsyncIterable<Extent>, size: number): Promise<boolean> {
  const safe = cached(printable);
  const width = Math.max(String(size).length, 'OFFSET'.length);
  await context.output.add(
    `${'OFFSET'.padStart(width)}  ${'LENGTH'.padStart(width)}  STATE    IMAGE  DEPTH  FILE:OFFSET\n`,
  );
  const damaged = await printAll(context, extents, (extent) => {
    const { offset, length, state, image, depth, compressed, file, fileOffset, reason } = extent;
    const nowhere = reason === undefined ? (compressed ? 'compressed' : '-') : printable(reason);
    const place = file === null ? nowhere : `${safe(file)}:${fileOffset}`;
    const range = `${String(offset).padStart(width)}  ${String(length).padStart(width)}`;
    return `${range}  ${state.padEnd(7)}  ${String(image ?? '-').padStart(5)}  ${String(depth ?? '-').padStart(5)}  ${place}\n`;
  });
  await context.output.flush();
  return damaged;
}

/** Neighbouring extents mostly share a file, so the last conversion is kept. */
function cached(convert: (text: string) => string): (text: string) => string {
  let last: { readonly from: string; readonly to: string } | null = null;
  return (text) => {
    if (last?.from !== text) last = { from: text, to: convert(text) };
    return last.to;
  };
}
