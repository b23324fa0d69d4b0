/** Writes docs/ops.md from the op table and from what calls of the public ops show. */
import { writeFileSync } from 'node:fs';
import { isDifferentiable } from '../lib/autograd.js';
import { isFloating } from '../lib/dtype.js';
import * as ng from '../lib/index.js';
import { catalogue, type Entry } from '../test/fuzz/catalogue.js';
import { Maker } from '../test/fuzz/maker.js';
import { type PublicItem, publicItems } from '../test/support/api.js';
import { Random } from '../test/support/random.js';

const tries = 12;
/** Functions in families of ops that compute no tensors, but say how others do. */
const settings = [
  ...['getMatmulBackend', 'setMatmulBackend', 'getMatmulPrecision', 'setMatmulPrecision'],
  'manualSeed',
];
type Row = readonly string[];

/** Makes arguments of one dtype, whatever an entry of the catalogue would have taken. */
export class OneDType extends Maker {
  constructor(
    device: ng.Device,
    private readonly only: ng.DType,
    attempt: number,
  ) {
    super(device);
    this.random = new Random(100 + attempt);
  }
  override dtype(): ng.DType {
    return this.only;
  }
  override float(): ng.DType {
    return this.only;
  }
  override numeric(): ng.DType {
    return this.only;
  }
}

export function tensorsIn(value: unknown): ng.Tensor[] {
  if (value instanceof ng.Tensor) return [value];
  return value !== null && typeof value === 'object' ? Object.values(value).flatMap(tensorsIn) : [];
}

/** An argument with its floating-point tensors as leaves that require gradients. */
function variable(arg: unknown): unknown {
  if (Array.isArray(arg)) return arg.map(variable);
  return arg instanceof ng.Tensor && isFloating(arg.dtype) ? arg.detach().requireGrad() : arg;
}

interface Seen {
  /** Tensors that the call was given, and returned. */
  inputs: ng.Tensor[];
  outputs: ng.Tensor[];
}

/** The first call that succeeds, among some with arguments of a dtype; null where none does. */
function tried<T>(
  entry: Entry,
  device: ng.Device,
  dtype: ng.DType,
  look: (seen: Seen) => T | null,
) {
  for (let attempt = 0; attempt < tries; ++attempt) {
    const found = ng.scope(() => {
      try {
        const given = entry.args(new OneDType(device, dtype, attempt));
        const args = given.map(variable);
        const result = (entry.call as (...args: unknown[]) => unknown)(...args);
        const outputs = tensorsIn(result);
        const answers = outputs.length > 0 || typeof result === 'boolean';
        return answers ? look({ inputs: tensorsIn(args), outputs }) : null;
      } catch {
        return null;
      }
    });
    if (found !== null) return found;
  }
  return null;
}

/** The dtypes that an op takes, in the words of the page. */
function dtypesOf(entry: Entry): string {
  const cpu = ng.device('cpu');
  const kept = ng.dtypes.filter((dtype) =>
    tried(entry, cpu, dtype, ({ inputs, outputs }) =>
      [...inputs, ...outputs].some((x) => x.dtype === dtype) ? true : null,
    ),
  );
  // A number with a fraction beside integers makes floats of them too, so one call decides nothing.
  const keepsIntegers = tried(entry, cpu, 'int32', ({ outputs }) =>
    outputs.length === 0 || outputs.some((x) => !isFloating(x.dtype)) ? true : null,
  );
  const floating = ng.dtypes.filter(isFloating);
  const all = kept.length === ng.dtypes.length;
  if (all) return keepsIntegers ? 'any' : 'converted';
  if (kept.length === ng.dtypes.length - 1 && !kept.includes('bool')) return 'numeric';
  if (kept.join() === floating.join()) return 'floating';
  return kept.join(', ');
}

function gradientOf(entry: Entry): string {
  const walk = ({ inputs, outputs }: Seen): string | null => {
    const y = outputs.find((x) => x.requiresGrad && x.size > 0);
    const leaves = inputs.filter((x) => x.requiresGrad && x.size > 0);
    if (!y || leaves.length === 0) return null;
    const total = y.mul(y).sum();
    try {
      const found = ng.grad(total, leaves, undefined, { createGraph: true });
      return found.some((dx) => dx !== null) ? 'again' : null;
    } catch {
      return 'once';
    }
  };
  return tried(entry, ng.device('cpu'), 'float32', walk) ?? 'no: no input, or no floating result';
}

function devicesOf(entry: Entry): string {
  const kinds = ['cpu', 'emulated'] as const;
  const runs = kinds.filter((kind) => tried(entry, ng.device(kind), 'float32', () => true));
  return runs.length === kinds.length ? 'cpu, cuda' : runs.join(', ');
}

/** The first sentence of a docstring, on one line. */
function summaryOf({ doc }: PublicItem): string {
  const text = doc
    .replaceAll(/\{@link ([\w.]+) ?\}/g, '`$1`')
    .replaceAll(/\s+/g, ' ')
    .replaceAll('|', '\\|');
  return (/^.*?[^.…]\.(?= [A-Z(]|$)/.exec(text)?.[0] ?? text).replace(/\.$/, '');
}

/** The public functions of lib/ops and the losses. */
export function publicOps(items: readonly PublicItem[]): PublicItem[] {
  return items.filter(
    ({ kind, file, name }) =>
      kind === 'function' && /^(ops|nn\/loss)\//.test(file) && !settings.includes(name),
  );
}

function publicRows(items: readonly PublicItem[]): Row[] {
  const rows = publicOps(items).map((item): Row => {
    const { name, file } = item;
    const entry = catalogue.find((one) => one.name === name);
    if (!entry) throw new Error(`docs:ops: the catalogue of the fuzzer lacks ${name}`);
    const devices = devicesOf(entry);
    const plain = name.split('.').at(-1) as string;
    const family = (file.split('/').at(-1) as string).replace('.ts', '');
    const row = (ng.opTable as Readonly<Record<string, (typeof ng.opTable)['add']>>)[plain];
    const [dtypes, gradient] = row
      ? [row.dtypes, gradientIn(row)]
      : [dtypesOf(entry), gradientOf(entry)];
    const made = row ? 'native' : 'composed';
    return [family, `\`${name}\``, summaryOf(item), made, dtypes, devices, gradient];
  });
  return rows.sort((a, b) => `${a[0]} ${a[1]}`.localeCompare(`${b[0]} ${b[1]}`));
}

function gradientIn({ gradient }: (typeof ng.opTable)['add']): string {
  if (typeof gradient === 'string') return gradient;
  return isDifferentiable(gradient) ? 'again' : 'once';
}

function nativeRows(): Row[] {
  return Object.entries(ng.opTable)
    .map(([name, row]) => ({ name, ...row }))
    .sort((a, b) => a.family.localeCompare(b.family) || a.name.localeCompare(b.name))
    .map(({ name, ...row }) => {
      const summary = row.summary.replaceAll('|', '\\|');
      return [row.family, `\`${name}\``, summary, row.dtypes, gradientIn(row)];
    });
}

function table(head: Row, rows: readonly Row[]): string[] {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`);
}

export function opsDocument(items: readonly PublicItem[] = publicItems()): string {
  return [
    '# Ops',
    '',
    'Made by `npm run docs:ops`; a test keeps it so. The first table has every public op, as calls of it',
    'show; most are methods of tensors too. The second has the native ops that they are made of, as the',
    'op table has them; tests hold every native op to its row.',
    '',
    '- Made of. native: a kernel of its own. composed: of native ops, whose gradients it has.',
    '- Dtypes. any: float32, float64, bfloat16, float16, int64, int32, uint8 and bool. numeric: all but',
    '  bool, which has no differences. converted: the results are no integers, so int64, int32, uint8 and',
    '  bool become float32 first, as in PyTorch. floating: the first four; integers are refused, which',
    "  in a layer are a mistake more often than not (`x.to('float32')` converts). float16 and bfloat16",
    '  are computed in float32.',
    '- Devices. cpu, and cuda by the same kernels on the emulated device of the tests.',
    '- Gradient. again: with one that can be differentiated in its turn (`grad` with `createGraph`).',
    '  once: its rule is a kernel of its own, which cannot. no: there is none, for the reason given.',
    '',
    '## Public ops',
    '',
    ...table(
      ['family', 'op', 'what it computes', 'made of', 'dtypes', 'devices', 'gradient'],
      publicRows(items),
    ),
    '',
    '## Native ops',
    '',
    ...table(['family', 'op', 'what it computes', 'dtypes', 'gradient'], nativeRows()),
    '',
  ].join('\n');
}

if (process.argv[1]?.endsWith('ops-table.ts')) {
  writeFileSync(new URL('../docs/ops.md', import.meta.url), opsDocument());
}
