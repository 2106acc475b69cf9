/** Code blocks of the documents, and a folder in which a reader would try them. */
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../scripts/prepare.mjs';

/** A code block as it stands in a document. */
export interface Example {
  readonly page: string;
  readonly heading: string;
  /** From 1, among the blocks of its language below the heading. */
  readonly number: number;
  readonly code: string;
  /** Text between the block and the next one or the next heading. */
  readonly after: string;
}

/** Blocks of one language in a document, in order. */
export function examplesOf(page: string, language: string): Example[] {
  const sections = readFileSync(join(ROOT, page), 'utf8').split(/^#+ /m).slice(1);
  return sections.flatMap((section) => {
    const heading = section.slice(0, section.indexOf('\n'));
    const blocks = [
      ...section.matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\`([^\`][\\s\\S]*?)?(?=\n\`\`\`|$)`, 'g')),
    ];
    return blocks.map(([, code = '', after = ''], index) => ({ page, heading, number: index + 1, code, after }));
  });
}

/** An empty folder with the package installed, and copies of the folders of a clone that the documents name. */
export class Workplace {
  readonly folder = mkdtempSync(join(tmpdir(), 'vdkit-docs-'));

  constructor() {
    mkdirSync(join(this.folder, 'node_modules'));
    symlinkSync(ROOT, join(this.folder, 'node_modules/vdkit'), 'junction');
    for (const name of ['samples', 'examples']) cpSync(join(ROOT, name), join(this.folder, name), { recursive: true });
  }

  /** Saves a block as it is, and returns the name of the file. */
  put(name: string, code: string): string {
    writeFileSync(join(this.folder, name), code);
    return join(this.folder, name);
  }

  /** Runs a file with this Node; rejects when it fails. */
  node(words: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> {
    return promisify(execFile)(process.execPath, words, { cwd: this.folder });
  }

  /** Runs a `vdkit …` line. */
  vdkit(words: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> {
    return this.node([join(this.folder, 'node_modules/vdkit/dist/cli/bin.js'), ...words]);
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
