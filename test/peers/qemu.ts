/** QEMU as a peer of any format that it has: `qemu-img` makes, reads and checks, `qemu-io` writes. */
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Measure } from '../../src/image/contract.ts';
import type { MakeWay, Peer, PeerChange, PeerImage, PeerKit, PeerRun } from '../formats/peer-kit.ts';
import type { PeerProgram } from './peers.ts';

/** Differences of the formats. */
export interface QemuKit {
  /** QEMU's name of the format. */
  readonly format: string;
  cannot: PeerKit['cannot'];
  cannotRead?: PeerKit['cannotRead'];
  cannotWrite?: PeerKit['cannotWrite'];
  packed?: PeerKit['packed'];
  readonly longestFixed?: number;
  /** The longest disk of vdkit that it is asked for; left out: any. */
  readonly longest?: number;
  readonly longestGrown?: number;
  /** QEMU only reads images of the format. */
  readonly readOnly?: boolean;
  /** It can look for damage. */
  readonly checks: boolean;
  /** It takes all of a disk for stored. */
  readonly mapless?: boolean;
  /** It can tell how much room an image would take. */
  readonly measures?: boolean;
  /** Images have backing files, so that its map tells zeroes from what is not stored. */
  readonly backing?: boolean;
  rounds?: Peer['rounds'];
  leaks?: Peer['leaks'];
  /** It does not find the format in the content of such an image. Left out: it finds it in all. */
  blind?(way: MakeWay): boolean;
  /** It looks for holes of the file inside what is stored. */
  holes?(way: MakeWay): boolean;
  /** Its options for this way; left out: those of vdkit. */
  options?(way: MakeWay): string;
  /** The words of vdkit for what `qemu-img info` reports. */
  reported?(info: QemuInfo): Readonly<Record<string, string>>;
}

/** Parts of `qemu-img info --output=json`. */
export interface QemuInfo {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly 'format-specific'?: { readonly data: Readonly<Record<string, unknown>> };
}

/** One run of `qemu-img map --output=json`. */
export interface QemuRun {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

/** What its map tells: see `QemuKit`. */
export interface MapRules {
  readonly backing?: boolean | undefined;
  readonly holes?: boolean | undefined;
}

/** Its map by the states of vdkit, which always looks for holes inside what is stored, and calls them zero. */
export function peerRuns(runs: readonly QemuRun[], { backing = false, holes = false }: MapRules): PeerRun[] {
  return runs.map(({ start, length, depth, present, zero, data, offset }) => {
    if (!present) return { start, length, states: ['absent'] };
    if (!data) return { start, length, depth, states: backing ? ['zero'] : ['zero', 'absent'] };
    const place = { start, length, depth, fileOffset: offset ?? null };
    if (holes) return { ...place, states: [zero ? 'zero' : 'data'] };
    return { ...place, states: ['data', 'zero'] };
  });
}

/** See the head of this file. */
export function qemu(kit: QemuKit): PeerKit {
  const { cannot, cannotRead, cannotWrite, packed, longest, longestFixed, longestGrown, readOnly = false } = kit;
  return {
    name: 'QEMU',
    programs: readOnly ? ['qemu-img'] : ['qemu-img', 'qemu-io'],
    cannot,
    ...(cannotRead === undefined ? {} : { cannotRead }),
    ...(cannotWrite === undefined ? {} : { cannotWrite }),
    ...(packed === undefined ? {} : { packed }),
    ...(longest === undefined ? {} : { longest }),
    ...(longestFixed === undefined ? {} : { longestFixed }),
    ...(longestGrown === undefined ? {} : { longestGrown }),
    start: (img, io) => new Qemu(kit, img, io),
  };
}

class Qemu implements Peer {
  readonly check: Peer['check'];
  readonly map: Peer['map'];
  readonly make: Peer['make'];
  readonly convert: Peer['convert'];
  readonly write: Peer['write'];
  readonly options: Peer['options'];
  readonly rounds: Peer['rounds'];
  readonly leaks: Peer['leaks'];
  readonly measure: Peer['measure'];
  readonly #kit: QemuKit;
  readonly #img: PeerProgram;

  constructor(kit: QemuKit, img: PeerProgram | undefined, io: PeerProgram | undefined) {
    if (img === undefined) throw new Error('qemu-img is missing');
    this.#kit = kit;
    this.#img = img;
    const { reported } = kit;
    this.rounds = kit.rounds;
    this.leaks = kit.leaks;
    if (kit.checks) this.check = (image) => this.#check(image);
    if (kit.mapless !== true) this.map = (image) => this.#map(image);
    if (reported !== undefined) this.options = async (image) => reported(await this.#info(image));
    if (kit.measures === true) this.measure = (source, target) => this.#measure(source, target);
    if (io === undefined) return;
    this.write = (image, changes) => writeByQemu(io, this.#opened(image), changes);
    this.make = (image, size, parent) => this.#make(image, size, parent);
    this.convert = (raw, image) => this.#convert(raw, image);
  }

  /** A block driver and its files. QEMU looks for data files from where it runs, so each is named as a whole. */
  #opened({ path, way }: PeerImage): string[] {
    const file = /data_file=([^,]*)/.exec(way.options)?.[1];
    const data = file === undefined ? '' : `,data-file.driver=file,data-file.filename=${join(dirname(path), file)}`;
    return ['--image-opts', `driver=${this.#kit.format},file.driver=file,file.filename=${path}${data}`];
  }

  #optionsOf({ path, way }: PeerImage): string[] {
    const words = this.#kit.options?.(way) ?? way.options;
    const whole = words.replace(/data_file=([^,]*)/, (_, file: string) => `data_file=${join(dirname(path), file)}`);
    return whole === '' ? [] : ['-o', whole];
  }

  async #info(image: PeerImage): Promise<QemuInfo> {
    return JSON.parse(await this.#img.run('info', '--output=json', ...this.#opened(image)));
  }

  async #make(image: PeerImage, size: number, parent?: string): Promise<void> {
    const { format } = this.#kit;
    const over = parent === undefined ? [] : ['-b', parent, '-F', format];
    await this.#img.run('create', '-q', '-f', format, ...this.#optionsOf(image), ...over, image.path, String(size));
  }

  async #convert(raw: string, image: PeerImage): Promise<void> {
    const { format } = this.#kit;
    await this.#img.run('convert', '-f', 'raw', '-O', format, ...this.#optionsOf(image), raw, image.path);
  }

  async #check(image: PeerImage): Promise<void> {
    const report = JSON.parse(await this.#img.run('check', '--output=json', ...this.#opened(image)));
    const { 'check-errors': errors, corruptions = 0, leaks = 0 } = report;
    if (errors !== 0 || corruptions !== 0 || leaks !== 0) throw new Error(`unsound: ${JSON.stringify(report)}`);
  }

  async #measure(source: { readonly path: string; readonly format: string }, target: PeerImage): Promise<Measure> {
    const to = ['-O', this.#kit.format, ...this.#optionsOf(target)];
    const words = ['measure', '--output=json', '-f', source.format, ...to, source.path];
    const report = JSON.parse(await this.#img.run(...words));
    return { required: report.required, fullyAllocated: report['fully-allocated'] };
  }

  /** True if it does exactly where it should. */
  async recognises({ path, way }: PeerImage): Promise<boolean> {
    const found = JSON.parse(await this.#img.run('info', '--output=json', path)).format === this.#kit.format;
    return found !== (this.#kit.blind?.(way) ?? false);
  }

  async size(image: PeerImage): Promise<number> {
    return (await this.#info(image))['virtual-size'];
  }

  async unit(image: PeerImage): Promise<number | null> {
    return (await this.#info(image))['cluster-size'] ?? null;
  }

  async #map(image: PeerImage): Promise<readonly PeerRun[]> {
    const runs: readonly QemuRun[] = JSON.parse(await this.#img.run('map', '--output=json', ...this.#opened(image)));
    const { backing, holes } = this.#kit;
    return peerRuns(runs, { backing, holes: holes?.(image.way) });
  }

  async same(image: PeerImage, raw: string): Promise<void> {
    const wanted = `driver=raw,file.driver=file,file.filename=${raw}`;
    const [mark = '', spec = ''] = this.#opened(image);
    // It fills the shorter one with zeroes, and its strict mode would compare the allocation too.
    const said = await this.#img.run('compare', mark, wanted, spec);
    if (!said.includes('Images are identical')) throw new Error(said);
  }

  async toRaw(image: PeerImage, raw: string): Promise<void> {
    await rm(raw, { force: true });
    await this.#img.run('convert', '-O', 'raw', ...this.#opened(image), raw);
  }
}

/** Changes by `qemu-io` to the image that these words open. */
export async function writeByQemu(
  io: PeerProgram,
  opened: readonly string[],
  changes: readonly PeerChange[],
): Promise<void> {
  const words = { write: 'write -q -P', zero: 'write -q -z', unmap: 'write -q -z -u', discard: 'discard -q' };
  const commands = changes.flatMap(({ how, offset, length, byte }) => {
    return ['-c', `${words[how]}${how === 'write' ? ` ${byte}` : ''} ${offset} ${length}`];
  });
  const said = await io.run('-t', 'unsafe', '-d', 'unmap', ...commands, ...opened);
  if (said !== '') throw new Error(`qemu-io: ${said}`);
}
