/**
 * The option tables of docs/cli.md are those of the command table. `VDKIT_UPDATE_DOCS=1 npx vitest run test/cli/docs`
 * updates them.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { GLOBAL_OPTIONS } from '../../src/cli/common-options.ts';
import { type CommandSpec, type OptionSpec, shownArguments, shownFlags } from '../../src/cli/spec.ts';
import { COMMANDS } from '../../src/cli/table.ts';

const PAGE = new URL('../../docs/cli.md', import.meta.url);
const BLOCK = /(<!-- generated: (\S+) -->\n)[\s\S]*?(<!-- end -->)/g;

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
}

function optionTable(options: readonly OptionSpec[]): string {
  if (options.length === 0) return '';
  const rows = options.map(
    (option) => `| \`${shownFlags(option).replaceAll('|', '\\|')}\` | ${cell(option.description)} |`,
  );
  return ['', '| option | |', '|---|---|', ...rows].join('\n');
}

function section(command: CommandSpec): string {
  const synopsis = `vdkit ${command.name} ${shownArguments(command)} [options]`.replace(/ +/g, ' ');
  const examples = command.examples.map((example) => `${example.command}  # ${example.description}`);
  return [
    `\`${synopsis}\``,
    '',
    command.description,
    optionTable(command.options),
    '',
    '```sh',
    ...examples,
    '```',
    '',
  ].join('\n');
}

function generated(name: string): string {
  if (name === 'global') return `${optionTable(GLOBAL_OPTIONS).trimStart()}\n`;
  const command = COMMANDS.find((one) => one.name === name);
  if (command === undefined) throw new Error(`docs/cli.md has a block for "${name}", which is no command`);
  return section(command).replace(/\n{3,}/g, '\n\n');
}

describe('docs/cli.md', () => {
  const text = readFileSync(PAGE, 'utf8');

  it('has the options and examples that the program has', () => {
    const wanted = text.replace(
      BLOCK,
      (_, start: string, name: string, end: string) => `${start}${generated(name)}${end}`,
    );
    if (process.env['VDKIT_UPDATE_DOCS'] === '1') writeFileSync(PAGE, wanted);
    else expect(text).toBe(wanted);
  });

  it('describes every command', () => {
    const described = [...text.matchAll(BLOCK)].map((match) => match[2]);
    expect(described).toEqual(['global', ...COMMANDS.map(({ name }) => name)]);
  });
});
