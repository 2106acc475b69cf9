/**
 * Toy formats whose images are not one file: a bundle, which is a directory with a descriptor and parts in it, and a
 * configuration, which names a disk of a server that this process plays.
 */
import { ImageError } from '../../../src/errors.ts';
import type { Image, ImageInfo, ImagePart, Mapping, SealedMetadata } from '../../../src/image/contract.ts';
import { defineFormat } from '../../../src/image/define-format.ts';
import type { ImageFiles } from '../../../src/image/files.ts';
import type { Finding } from '../../../src/image/findings.ts';
import { plainInfo } from '../../../src/image/plain-info.ts';
import type { OpenMode, Storage } from '../../../src/storage/contract.ts';
import type { MemoryProvider } from '../../../src/storage/memory.ts';

const NOTHING: SealedMetadata = { stage: [], root: [], publish: [] };
/** The descriptor of a bundle: its parts, a name a line. */
export const DESCRIPTOR = 'parts.txt';
const LONGEST = 4096;
const SECTOR = 512;

/** The disk is its parts, one behind the other. */
class Parts implements Image {
  readonly dirtyBytes = 0;
  readonly can: Image['can'];
  readonly info: ImageInfo;
  readonly #parts: readonly ImagePart[];
  readonly #others: readonly Storage[];

  constructor(format: string, mode: OpenMode, parts: readonly ImagePart[], others: readonly Storage[] = []) {
    this.#parts = parts;
    this.#others = others;
    const virtualSize = parts.reduce((sum, { storage }) => sum + (storage?.size ?? 0), 0);
    this.info = plainInfo({ format, virtualSize, blockSize: null, allocation: 'fixed' });
    const none = { allocate: false, zeroMarker: false, discard: false, resize: false, compact: false };
    this.can = { ...none, write: mode === 'write', readOnlyReason: null };
  }

  parts(): readonly ImagePart[] {
    return this.#parts;
  }

  map(guestOffset: number, length: number): Mapping {
    let start = 0;
    for (const { storage } of this.#parts) {
      const size = storage?.size ?? 0;
      if (storage !== null && guestOffset < start + size) {
        const fileOffset = guestOffset - start;
        const run = Math.min(length, size - fileOffset);
        return { kind: 'data', storage, fileOffset, length: run, writable: this.can.write };
      }
      start += size;
    }
    throw new Error('behind the end of the disk');
  }

  async beginChanges(): Promise<void> {}
  noteChange(): void {}
  seal(): SealedMetadata {
    return NOTHING;
  }
  settle(): void {}

  async *metadata() {
    for (const storage of this.#others) {
      yield { storage, fileOffset: 0, length: storage.size, what: 'descriptor', guestOffset: null };
    }
  }

  storages(): readonly Storage[] {
    return [...this.#parts.flatMap(({ storage }) => (storage === null ? [] : [storage])), ...this.#others];
  }

  async close(): Promise<void> {
    for (const storage of this.storages()) await storage.close();
  }
}

/** It has no files that could be named. */
class Unit extends Parts {
  override parts(): readonly ImagePart[] {
    return [];
  }
}

interface Bundle {
  readonly descriptor: Storage;
  readonly parts: readonly ImagePart[];
}

async function readBundle(files: ImageFiles, mode: OpenMode, withData = true): Promise<Bundle> {
  const descriptor = await files.open({ name: DESCRIPTOR, role: 'descriptor', part: true }, mode);
  if (descriptor.size > LONGEST)
    throw new ImageError('limit', 'The descriptor is too long', { path: descriptor.label });
  const bytes = new Uint8Array(descriptor.size);
  await descriptor.read(0, bytes);
  const parts: ImagePart[] = [];
  for (const name of new TextDecoder().decode(bytes).split('\n')) {
    if (name === '') continue;
    const storage = withData ? await files.open({ name, role: 'part', part: true }, mode) : null;
    parts.push({ name, role: 'part', storage });
  }
  if (parts.length === 0) throw new ImageError('invalid-format', 'The descriptor names no parts', { path: files.name });
  return { descriptor, parts };
}

function baseOf(name: string): string {
  return name.split(/[/\\]/).at(-1) ?? '';
}

async function strayFiles(files: ImageFiles, { parts }: Bundle): Promise<string[]> {
  const known = new Set([DESCRIPTOR, ...parts.map(({ name }) => name)]);
  const stray: string[] = [];
  for await (const name of files.list()) if (!known.has(baseOf(name))) stray.push(baseOf(name));
  return stray.sort();
}

/** A directory is the image. */
export const bundle = defineFormat({
  name: 'toy-bundle',
  title: 'A directory with parts',
  can: { write: true },
  extensions: [{ extension: 'toybundle', type: 'hdd' }],
  probe: () => ({ match: 'no', reason: 'a bundle is a directory' }),
  probeDirectory: ({ names }) =>
    names.includes(DESCRIPTOR)
      ? { match: 'yes', reason: `it contains ${DESCRIPTOR}`, type: 'hdd' }
      : { match: 'no', reason: `it does not contain ${DESCRIPTOR}` },
  directoryMain: DESCRIPTOR,
  async open(files, { mode, withoutData }) {
    const { descriptor, parts } = await readBundle(files, mode, withoutData !== true);
    return new Parts('toy-bundle', mode, parts, [descriptor]);
  },
  /** Three parts: all but the last end where a sector of the disk does. */
  async create(files, { size }) {
    if (!Number.isSafeInteger(size) || size < 3 * SECTOR || size % SECTOR !== 0) {
      throw new ImageError('invalid-argument', 'The disk size is not valid', { path: files.name, found: size });
    }
    const third = SECTOR * Math.floor(size / SECTOR / 3);
    const parts: ImagePart[] = [];
    for (const [index, length] of [third, third, size - 2 * third].entries()) {
      const name = `part-${index + 1}.bin`;
      const storage = await files.part(name);
      await storage.resize(length);
      await storage.flush();
      parts.push({ name, role: 'part', storage });
    }
    await files.main.write(0, new TextEncoder().encode(parts.map(({ name }) => `${name}\n`).join('')));
    await files.main.flush();
    return new Parts('toy-bundle', 'write', parts, [files.main]);
  },
  plan: ({ size }) => ({ virtualSize: size, preallocates: 0 }),
  async check(files) {
    const found = await readBundle(files, 'read');
    const short = found.parts.flatMap(({ name, storage }): Finding[] =>
      (storage?.size ?? 0) % 512 === 0 ? [] : [finding('corruption', 'cut', `${name} is cut off`, true)],
    );
    const stray = await strayFiles(files, found);
    return [...short, ...stray.map((name) => finding('warning', 'stray', `${name} is no part`, false))];
  },
  async repair(files) {
    for (const { storage } of (await readBundle(files, 'write')).parts) {
      await storage?.resize(Math.ceil(storage.size / 512) * 512);
    }
    return [];
  },
});

function finding(severity: Finding['severity'], code: string, message: string, repairable: boolean): Finding {
  return { severity, code, message, fileOffset: null, guestOffset: null, repairable };
}

/** Disks of servers, by host. */
export const SERVERS = new Map<string, MemoryProvider>();

/** A configuration is the image. */
export const net = defineFormat({
  name: 'toy-net',
  title: 'A disk of a server',
  can: { write: true },
  configKeys: (['host', 'unit'] as const).map((name) => ({
    name,
    valueType: name === 'host' ? 'string' : 'integer',
    default: null,
    mandatory: true,
    expert: false,
    createOnly: false,
    description: `The ${name} of the disk.`,
  })),
  probe: () => ({ match: 'no', reason: 'it is found by a configuration' }),
  composeLocation: ({ host, unit }) => (host === undefined || unit === undefined ? null : `${host}/${unit}`),
  composeName: ({ host, unit }) => `unit ${unit} of ${host}`,
  async open(files, { mode, config = {} }) {
    if (files.main !== null) throw new ImageError('unsupported', 'A file is no server', { path: files.name });
    const storage = await SERVERS.get(String(config['host']))?.open(`/${config['unit']}`, mode);
    if (storage === undefined) throw new ImageError('not-found', 'There is no such server', { path: files.name });
    return new Unit('toy-net', mode, [{ name: 'unit', role: 'unit', storage }]);
  },
  async check(_files, { config = {} }) {
    const storage = await SERVERS.get(String(config['host']))?.open(`/${config['unit']}`, 'read');
    await storage?.close();
    return storage === undefined ? [finding('corruption', 'gone', 'The server is gone', false)] : [];
  },
});
