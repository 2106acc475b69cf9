/** Definition of a format: only what its members do not state already. */
import { checkArguments, NAME, withFields } from '../arguments.ts';
import type { Format, FormatCapabilities } from './contract.ts';

/** Members of a format that are empty unless it has them. */
type Defaulted = 'aliases' | 'extensions' | 'configKeys' | 'variants';

/** Capabilities that follow from methods and variants. */
type Derived = 'createFixed' | 'createDynamic' | 'diff' | 'check' | 'repair';

/** A format without its derived capabilities. */
export interface FormatDefinition extends Omit<Format, 'capabilities' | Defaulted>, Partial<Pick<Format, Defaulted>> {
  /** Capabilities that nothing else states; left out: only reading. */
  readonly can?: Partial<Omit<FormatCapabilities, Derived>>;
}

const DEFINITION = withFields('a format', { name: NAME });

/** Completes a format: capabilities from its methods and variants, empty lists where it has none. */
export function defineFormat(definition: FormatDefinition): Format {
  checkArguments('defineFormat', { definition: [definition, DEFINITION] });
  const { can = {}, ...own } = definition;
  const lists = { aliases: [], extensions: [], configKeys: [], variants: [] };
  return { ...lists, ...own, capabilities: capabilitiesOf(definition, can) };
}

function capabilitiesOf(format: FormatDefinition, own: NonNullable<FormatDefinition['can']>): FormatCapabilities {
  const { variants = [] } = format;
  const creates = format.create !== undefined;
  return {
    uuid: false,
    createFixed: creates && variants.some(({ allocation }) => allocation === 'fixed'),
    createDynamic: creates && (variants.length === 0 || variants.some(({ allocation }) => allocation === 'dynamic')),
    createSplit: false,
    diff: variants.some(({ differencing }) => differencing === true),
    preferred: false,
    read: true,
    write: false,
    discard: false,
    resize: false,
    compact: false,
    check: format.check !== undefined,
    repair: format.repair !== undefined,
    sequential: false,
    ...own,
  };
}
