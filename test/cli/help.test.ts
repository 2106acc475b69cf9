/** Help, suggestions and completion all come from the command table. */
import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { GLOBAL_OPTIONS } from '../../src/cli/common-options.ts';
import { LOADERS } from '../../src/cli/loaders.ts';
import { longName } from '../../src/cli/spec.ts';
import { COMMANDS } from '../../src/cli/table.ts';
import { runCli } from './run-cli.ts';

const NAMES = COMMANDS.map(({ name }) => name);

describe('help', () => {
  it('lists all commands with examples and exit statuses', async () => {
    const { status, stdout, stderr } = await runCli(['--help']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    for (const { name, summary } of COMMANDS) expect(stdout).toMatch(new RegExp(`^  ${name}\\b.*${summary}$`, 'm'));
    expect(stdout).toContain('Examples:\n  vdkit info');
    expect(stdout).toContain('130 interrupted');
  });

  it.each(NAMES)('of %s shows usage, examples and all options', async (name) => {
    const { status, stdout } = await runCli([name, '--help']);
    expect(status).toBe(0);
    expect(await runCli(['help', name])).toMatchObject({ status: 0, stdout });
    const command = COMMANDS.find((one) => one.name === name);
    expect(stdout).toMatch(new RegExp(`^Usage: vdkit ${name} `));
    expect(stdout).toContain('Examples:\n');
    for (const example of command?.examples ?? []) expect(stdout).toContain(example.command);
    for (const option of [...(command?.options ?? []), ...GLOBAL_OPTIONS])
      expect(stdout).toContain(`--${longName(option)}`);
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
  });

  it('answers nothing with the help, as a mistake', async () => {
    const { status, stdout, stderr } = await runCli([]);
    expect({ status, stdout }).toEqual({ status: 64, stdout: '' });
    expect(stderr).toContain('Usage: vdkit COMMAND');
  });

  it('prints the version', async () => {
    expect(await runCli(['--version'])).toMatchObject({ status: 0, stdout: '1.2.3\n' });
    expect(await runCli(['-V'])).toMatchObject({ status: 0, stdout: '1.2.3\n' });
  });

  it('has bold titles on a terminal only', async () => {
    expect((await runCli(['--help'], { terminal: true })).stdout).toContain('\u001b[1m');
    expect((await runCli(['--help'])).stdout).not.toContain('\u001b');
    const declined = await runCli(['--help'], { terminal: true, environment: { NO_COLOR: '1' } });
    expect(declined.stdout).not.toContain('\u001b');
  });
});

describe('the table', () => {
  it('names each command once, and each has an implementation', () => {
    expect(new Set(NAMES).size).toBe(NAMES.length);
    expect(Object.keys(LOADERS).sort()).toEqual([...NAMES].sort());
  });

  it('names each option of a command once', () => {
    for (const { name, options } of COMMANDS) {
      const flags = [...options, ...GLOBAL_OPTIONS].flatMap(
        (option) => option.flags.match(/-{1,2}[A-Za-z][a-z-]*/g) ?? [],
      );
      expect(new Set(flags).size, name).toBe(flags.length);
    }
  });

  it('has examples that parse', async () => {
    const { parseWords } = await import('../../src/cli/parser.ts');
    const style = { columns: () => 80, title: (text: string) => text, version: () => '' };
    for (const { command } of COMMANDS.flatMap(({ examples }) => examples)) {
      const words = /vdkit ([^|>)]*)/.exec(command)?.[1]?.trim().split(' ') ?? [];
      expect(parseWords(words, style).kind, command).toBe('command');
    }
  });
});

describe('suggestions', () => {
  it.each([
    [['inof', 'x'], 'info'],
    [['comapre', 'a', 'b'], 'compare'],
    [['info', '--jsn', 'x'], '--json'],
    [['convert', 'a', 'b', '--formt', 'raw'], '--format'],
    [['--quite', 'info'], '--quiet'],
  ])('%j: did you mean %s?', async (words, meant) => {
    const { status, stderr } = await runCli(words);
    expect(status).toBe(64);
    expect(stderr).toMatch(new RegExp(`^error: .+\nhint: Did you mean ${meant}\\?\n$`));
  });
});

describe('options of every command', () => {
  it('may stand before its name and behind it', async () => {
    const before = await runCli(['--json', 'formats']);
    const after = await runCli(['formats', '--json']);
    expect(before).toEqual(after);
    expect(JSON.parse(before.stdout).schema).toBe('vdkit/formats/1');
  });
});

describe('--variant help', () => {
  it.each([
    ['create', '--variant', 'help', '--to', 'vdi'],
    ['create', 'x.vdi', '--variant=help'],
    ['convert', 'a', 'b.vdi', '--variant', 'help'],
  ])('%s %s %s %s', async (...words) => {
    const { status, stdout } = await runCli(words);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^vdi:\n/);
    expect(stdout).toMatch(/^ {2}fixed +\S/m);
    expect(stdout).not.toContain('sparse');
  });

  it('lists all formats when none is named', async () => {
    const { stdout } = await runCli(['convert', '--variant', 'help', '--json']);
    const { formats } = JSON.parse(stdout);
    expect(formats.map(({ format }: { format: string }) => format)).toEqual(expect.arrayContaining(['vdi', 'raw']));
  });
});

describe('completion', () => {
  const script = async (shell: string): Promise<string> => (await runCli(['completion', shell])).stdout;

  it.each(['bash', 'zsh', 'fish'])('for %s knows all commands and options', async (shell) => {
    const text = await script(shell);
    const dashes = shell === 'fish' ? '-l ' : '--';
    for (const command of COMMANDS) {
      expect(text).toContain(command.name);
      for (const option of [...command.options, ...GLOBAL_OPTIONS])
        expect(text).toContain(`${dashes}${longName(option)}`);
    }
  });

  it.each(['bash', 'zsh', 'fish'])('for %s is a script that its shell takes', async (shell) => {
    const text = await script(shell);
    try {
      execFileSync(shell, ['-c', 'true']);
    } catch {
      // Not on this machine; the content was checked above.
      return;
    }
    execFileSync(shell, ['-n'], { input: text });
  });

  it('works in bash', async () => {
    const text = await script('bash');
    const complete = (...words: string[]): string[] => {
      const line = words.map((word) => `'${word}'`).join(' ');
      const run = `COMP_WORDS=(vdkit ${line}); COMP_CWORD=${words.length}; _vdkit vdkit '${words.at(-1)}' '${words.at(-2) ?? 'vdkit'}'; printf '%s\\n' "\${COMPREPLY[@]}"`;
      return execFileSync('bash', ['-c', `${text}\n${run}`], { encoding: 'utf8' })
        .trim()
        .split('\n');
    };
    expect(complete('com')).toEqual(NAMES.filter((name) => name.startsWith('com')));
    expect(complete('convert', '--sp')).toEqual(['--sparse-size']);
    expect(complete('info', 'x', '--format', 'vd')).toContain('vdi');
    expect(complete('convert', '--progress', 'j')).toEqual(['json']);
    expect(complete('completion', 'z')).toEqual(['zsh']);
  });
});
