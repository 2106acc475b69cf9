/** Defaults for absent options: provider, registry, gate. */
import { defaultProvider } from '#local-storage';
import { ImageError } from '../../errors.ts';
import { defaultRegistry } from '../../formats/index.ts';
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

let builtIn: Registry | null = null;

/** The registry to use. Look-ups only, since one default registry serves all callers. */
export function registryOf(options: EnvironmentOptions): Registry {
  if (options.registry !== undefined) return options.registry;
  builtIn ??= defaultRegistry();
  return builtIn;
}

/** The environment part of a caller's options, to pass on. */
export function environmentOf(options: EnvironmentOptions): EnvironmentOptions {
  const { provider, registry, allow, lock, signal, onMessage } = options;
  return {
    signal,
    provider,
    registry,
    allow,
    lock,
    onMessage,
  };
}

/** Reports a message to the caller. The work goes on whatever the callback does. */
export function warn({ onMessage }: EnvironmentOptions, text: string, path: string | null): void {
  onMessage?.({ level: 'warning', text, path });
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

/** Provider and name of an image. */
export function sourceOf(source: ImageSource, options: EnvironmentOptions): Source {
  if (typeof source !== 'string') return 'config' in source ? configuredSource(source, options) : source;
  const provider = registryOf(options).providerOf(source) ?? options.provider ?? localFor(source, options);
  return { provider, name: provider.resolve(source, '') };
}

/** Another name on the provider of an image. */
export function nameOn(provider: StorageProvider, name: string, options: EnvironmentOptions): string {
  return (provider === defaultProvider() ? localFor(name, options) : provider).resolve(name, '');
}

/** The files of this machine. A name that asks for something else must not become a file in the current directory. */
function localFor(name: string, options: EnvironmentOptions): StorageProvider {
  const scheme = schemeOf(name);
  if (scheme === null || !name.slice(scheme.length).startsWith('://')) return defaultProvider();
  const known = registryOf(options).schemes.map((one) => `${one.name}:`);
  const others = known.length === 0 ? '' : ` Names may begin with ${known.join(', ')}.`;
  throw new ImageError('unsupported', `Images cannot be reached through ${scheme}:`, {
    path: name,
    hint: `${others} For a file of that name, put ./ before it.`.trim(),
  });
}

function configuredSource({ format: wanted, config }: ConfiguredImage, options: EnvironmentOptions): Source {
  const format = registryOf(options).find(wanted);
  if (format.composeLocation === undefined) {
    throw new ImageError('invalid-argument', `Images of format ${format.name} are files`, {
      hint: 'Name the file of the image.',
    });
  }
  const location = format.composeLocation(config);
  if (location === null) {
    throw new ImageError('invalid-argument', 'The configuration does not say where the image is', {
      found: Object.keys(config).join(', '),
      expected: `values for ${format.configKeys.map(({ name }) => name).join(', ')}`,
    });
  }
  const provider = options.provider ?? defaultProvider();
  const name = format.composeName?.(config) ?? location;
  return { provider, name, configuration: { format: format.name, location, config } };
}

/**
 * The gate for what an image names. Beside its own parts nothing is allowed unless the caller said so. `storage`: the
 * image's open file, whose own directory counts, whatever is put into the place of that directory meanwhile; null: the
 * image is a directory.
 */
export async function gateOf(allow: Allow | undefined, source: Source, storage?: Storage | null): Promise<OpenGate> {
  if (allow !== undefined && allow !== 'none' && !isList(allow)) return allow;
  const gate = await gateOfList(allow, source, storage);
  const { provider, configuration } = source;
  if (configuration !== undefined) return gate;
  return withOwnParts(gate, async () => ({
    provider,
    name: await ownName(source, storage),
    isDirectory: storage === null,
  }));
}

async function gateOfList(
  allow: 'none' | readonly string[] | undefined,
  source: Source,
  storage: Storage | null | undefined,
): Promise<OpenGate> {
  if (allow === undefined || allow === 'none') return denyAll();
  const { provider } = source;
  const roots = allow.filter((entry) => entry !== SAME_DIRECTORY).map((entry) => provider.resolve(entry, ''));
  // A configuration lies in no directory.
  const same = source.configuration === undefined && allow.includes(SAME_DIRECTORY);
  const realRoots = same ? [provider.directory(await ownName(source, storage))] : [];
  return openGate({ roots, realRoots, provider });
}

function isList(allow: Allow): allow is readonly string[] {
  return Array.isArray(allow);
}

async function ownName({ provider, name }: Source, storage: Storage | null | undefined): Promise<string> {
  const place = await storage?.place?.();
  return place?.name ?? provider.realName(name);
}
