/** The environment of a call, and options that stay with an image. */
import { defaultProvider } from '#local-storage';
import { ImageError } from '../../errors.ts';
import type { Registry } from '../../image/registry.ts';
import type { Source, Storage, StorageProvider } from '../../storage/contract.ts';
import { denyAll, type OpenGate, openGate, schemeOf, withOwnParts } from '../../storage/gate.ts';
import type {
  Allow,
  ConfiguredImage,
  EnvironmentOptions,
  ImageEntry,
  ImageInput,
  ImageOpenOptions,
  ImageSettings,
  ImageSource,
} from '../options.ts';

/** Entry of an allow list that stands for the image's own directory. */
export const SAME_DIRECTORY = 'same-directory';

let builtIn: Promise<Registry> | null = null;

/**
 * Environment of a call: provider, registry, permissions, locks, signal and messages. Resolved once, where the call
 * enters the library, and handed on from there.
 */
export class Environment {
  /** Look-ups only, since one default registry serves all callers. */
  readonly registry: Registry;
  /** Files that images may refer to. */
  readonly allow: Allow;
  /** False: locks are neither taken nor checked. */
  readonly lock: boolean;
  readonly signal: AbortSignal | undefined;
  readonly onMessage: EnvironmentOptions['onMessage'];
  readonly #provider: StorageProvider | undefined;

  private constructor(registry: Registry, options: EnvironmentOptions) {
    const { provider, allow = 'none', lock = true, signal, onMessage } = options;
    this.registry = registry;
    this.allow = allow;
    this.lock = lock;
    this.signal = signal;
    this.onMessage = onMessage;
    this.#provider = provider;
  }

  static async of(options: EnvironmentOptions): Promise<Environment> {
    const { registry, ...others } = options;
    return new Environment(registry ?? (await builtInRegistry()), others);
  }

  /** Provider of plain names. Throws `unsupported` in a browser if the caller gave none. */
  get provider(): StorageProvider {
    return this.#provider ?? defaultProvider();
  }

  /** The same environment but for these. Undefined: as if the caller had given nothing. */
  with({ registry = this.registry, ...changes }: Omit<EnvironmentOptions, 'provider'>): Environment {
    const { allow, lock, signal, onMessage } = this;
    return new Environment(registry, { provider: this.#provider, allow, lock, signal, onMessage, ...changes });
  }

  /** Reports a message to the caller. The work goes on whatever the callback does. */
  warn(text: string, path: string | null): void {
    this.onMessage?.({ level: 'warning', text, path });
  }

  /** Provider and name of an image. */
  sourceOf(source: ImageSource): Source {
    if (typeof source !== 'string') return 'config' in source ? this.#configured(source) : source;
    const provider = this.registry.providerOf(source) ?? this.#provider ?? this.#localFor(source);
    return { provider, name: provider.resolve(source, '') };
  }

  /** Another name on the provider of an image. */
  nameOn(provider: StorageProvider, name: string): string {
    return (provider === defaultProvider() ? this.#localFor(name) : provider).resolve(name, '');
  }

  /**
   * The gate for what an image names. Beside its own parts nothing is allowed unless the caller said so. `storage`: the
   * image's open file, whose own directory counts, whatever is put into the place of that directory meanwhile; null:
   * the image is a directory. `place`: that of the directory, where it was judged already.
   */
  gateOf(source: Source, storage?: Storage | null, place?: string): Promise<OpenGate> {
    return gateOf(this.allow, source, { storage, place });
  }

  /** The files of this machine. A name that asks for something else must not become a file in the current directory. */
  #localFor(name: string): StorageProvider {
    const scheme = schemeOf(name);
    if (scheme === null || !name.slice(scheme.length).startsWith('://')) return defaultProvider();
    const known = this.registry.schemes.map((one) => `${one.name}:`);
    const others = known.length === 0 ? '' : ` Names may begin with ${known.join(', ')}.`;
    throw new ImageError('unsupported', `Names that begin with ${scheme}: are not supported`, {
      path: name,
      hint: `${others} For a file of that name, put ./ before it.`.trim(),
    });
  }

  #configured({ format: wanted, config }: ConfiguredImage): Source {
    const format = this.registry.find(wanted);
    if (format.composeLocation === undefined) {
      throw new ImageError('invalid-argument', `Images of format ${format.name} are files`, {
        hint: 'Name the file of the image.',
      });
    }
    const location = format.composeLocation(config);
    if (location === null) {
      throw new ImageError('invalid-argument', 'The configuration lacks the location of the image', {
        found: Object.keys(config).join(', '),
        expected: `values for ${format.configKeys.map(({ name }) => name).join(', ')}`,
      });
    }
    const name = format.composeName?.(config) ?? location;
    return { provider: this.provider, name, configuration: { format: format.name, location, config } };
  }
}

/** Loaded when first needed: a page with a registry of its formats loads nothing of the others. */
function builtInRegistry(): Promise<Registry> {
  builtIn ??= import('../../formats/index.ts').then(({ defaultRegistry }) => defaultRegistry());
  return builtIn;
}

/** Options of a call, its environment resolved. */
export type Resolved<T extends EnvironmentOptions> = Omit<T, keyof EnvironmentOptions> & {
  readonly environment: Environment;
};

/** Resolves the environment of a call: once, where the call enters the library. */
export async function resolve<T extends EnvironmentOptions>(options: T): Promise<Resolved<T>> {
  const { provider, registry, allow, lock, signal, onMessage, ...rest } = options;
  return { ...rest, environment: await Environment.of({ provider, registry, allow, lock, signal, onMessage }) };
}

/** Options given for one image. */
type Said = { readonly [Key in keyof ImageEntry]?: ImageEntry[Key] | undefined };

/** The disk's options that stay with an image, overridden by those of the image. */
export function settingsOf(options: ImageOpenOptions, entry: Said = {}): ImageSettings {
  const { image: _image, format: _format, ...own } = entry;
  const { mode, shareable, honourZeroes, honourSame, ignoreFlush, discard, sequential } = options;
  const common = { mode, shareable, honourZeroes, honourSame, ignoreFlush, discard, sequential };
  const said = [common, own].flatMap((some) => Object.entries(some).filter(([, value]) => value !== undefined));
  // Later ones win.
  return Object.fromEntries(said) as ImageSettings;
}

/** The image as an entry with its options. */
export function entryOf(input: ImageInput): ImageEntry {
  return typeof input === 'object' && 'image' in input ? input : { image: input };
}

/** The image itself: see {@link Environment.gateOf}. */
interface Own {
  readonly storage: Storage | null | undefined;
  readonly place: string | undefined;
}

/** The gate of {@link Environment.gateOf} for a given list. */
async function gateOf(allow: Allow, source: Source, own: Own): Promise<OpenGate> {
  if (allow !== 'none' && !isList(allow)) return allow;
  const gate = await gateOfList(allow, source, own);
  const { provider } = source;
  if (liesNowhere(source)) return gate;
  return withOwnParts(gate, async () => {
    const name = await ownName(source, own);
    return name === null ? null : { provider, name, isDirectory: own.storage === null };
  });
}

async function gateOfList(allow: 'none' | readonly string[], source: Source, own: Own): Promise<OpenGate> {
  if (allow === 'none') return denyAll();
  const { provider } = source;
  const roots = allow.filter((entry) => entry !== SAME_DIRECTORY).map((entry) => provider.resolve(entry, ''));
  const same = !liesNowhere(source) && allow.includes(SAME_DIRECTORY);
  const name = same ? await ownName(source, own) : null;
  if (same && name === null && roots.length === 0) return denyAll('the image was moved while it was opened');
  return openGate({ roots, realRoots: name === null ? [] : [provider.directory(name)], provider });
}

/** True for a configuration, and for a member of an archive: the files in no directory belong to it. */
function liesNowhere({ configuration, unpacked }: Source): boolean {
  return configuration !== undefined || unpacked?.isMember === true;
}

function isList(allow: Allow): allow is readonly string[] {
  return Array.isArray(allow);
}

/** Null: the open file has no name that can be told, so whatever has its name now is another file. */
async function ownName({ provider, name }: Source, { storage, place }: Own): Promise<string | null> {
  if (place !== undefined) return place;
  const found = (await storage?.place?.()) ?? null;
  return found === null ? provider.realName(name) : found.name;
}
