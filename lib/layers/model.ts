/**
 * A model of layers whose sizes are inferred. Building sends zeros through each layer in turn, so that
 * shapes are what the layers give and no second set of formulas can disagree with them.
 */
import { describe, expectOptions } from '../check.js';
import { noGrad } from '../context.js';
import { type Device, type DeviceLike, device, getDefaultDevice } from '../device.js';
import { type DType, isDType, isFloating } from '../dtype.js';
import { Embedding } from '../nn/embedding.js';
import { Module, type StateDict } from '../nn/module.js';
import { type Layer, Sequential } from '../nn/sequential.js';
import { zeros } from '../ops/fill.js';
import { max, min } from '../ops/reduce.js';
import { scope } from '../scope.js';
import type { Shape, Tensor } from '../tensor.js';
import type { FreeShape, LazyLayer, Requirement } from './layer.js';

export interface SequentialOptions {
  /** Sizes of a sample, null where any will do; the first input's where left out. */
  inputShape?: FreeShape;
  /** Where the parameters are put; the default device where left out. */
  device?: DeviceLike;
}

/** A layer of a model, built. */
export interface BuiltLayer {
  readonly name: string;
  readonly kind: string;
  /** Sizes of its result, without the batch's. */
  readonly outputShape: FreeShape;
  /** Its number among `model.layers`, and how many of them it is made of. */
  readonly first: number;
  readonly count: number;
  readonly needs: Requirement;
}

/** A module as a layer that is already built. */
function wrapped(module: Layer): LazyLayer {
  const name = module.constructor.name;
  const indices = module instanceof Embedding;
  return {
    kind: name.charAt(0).toLowerCase() + name.slice(1),
    ...(indices && { vocabulary: module.numEmbeddings }),
    needs: () => ({
      text: indices ? `integer indices below ${module.numEmbeddings}` : 'anything',
      holds: (_, dtype) => !indices || !isFloating(dtype),
    }),
    build: () => [module],
  };
}

function isLazy(value: unknown): value is LazyLayer {
  const found = value as Partial<LazyLayer> | null;
  return typeof found?.build === 'function' && typeof found.needs === 'function';
}

/** The same error, naming the layer. */
function inLayer(name: string, number: number, error: unknown): unknown {
  if (!(error instanceof Error) || error.message.startsWith('sequential: ')) return error;
  const Kind = error.constructor as new (message: string, options: ErrorOptions) => Error;
  return new Kind(`sequential: layer ${number} '${name}': ${error.message}`, { cause: error });
}

/** Layers one after another, built when their input's shape is known; see {@link sequential}. */
export class SequentialLayers extends Sequential {
  private specs: readonly LazyLayer[];
  private readonly names: readonly string[];
  private place: Device;
  /** What {@link to} asked for; null for the layers' own. */
  private precision: DType | null = null;
  private rows: BuiltLayer[] = [];
  private starts = new Map<number, number>();
  private shape: FreeShape | null = null;

  constructor(items: readonly (LazyLayer | Layer)[], options: SequentialOptions = {}) {
    super();
    if (!Array.isArray(items) || items.length === 0) {
      throw new TypeError(`sequential: needs an array of layers, got ${describe(items)}`);
    }
    const given = expectOptions('sequential', options, ['inputShape', 'device']);
    this.specs = items.map((item, i) => {
      if (item instanceof Module) return wrapped(item as Layer);
      if (isLazy(item)) return item;
      throw new TypeError(
        `sequential: layer ${i} must be made by layers.… or be a module, got ${describe(item)}`,
      );
    });
    const used = new Map<string, number>();
    this.names = this.specs.map(({ name, kind }) => {
      const wanted = name ?? kind;
      const count = used.get(wanted) ?? 0;
      used.set(wanted, count + 1);
      if (count > 0 && name !== undefined) {
        throw new RangeError(`sequential: names must differ, got ${describe(name)} twice`);
      }
      return count === 0 ? wanted : `${wanted}_${count}`;
    });
    this.place = given.device === undefined ? getDefaultDevice() : device(given.device);
    if (given.inputShape !== undefined) this.build(given.inputShape);
  }

  /** Where the parameters are, or will be. */
  get device(): Device {
    return this.place;
  }

  /** Whether the sizes are known. */
  get built(): boolean {
    return this.shape !== null;
  }

  /** Sizes of a sample, once built. */
  get inputShape(): FreeShape | null {
    return this.shape;
  }

  /** The layers as built: what a summary shows. */
  get builtLayers(): readonly BuiltLayer[] {
    return this.rows;
  }

  /** Whether the first layer takes indices, and below what; null where it takes numbers. */
  get vocabulary(): number | null {
    return this.specs[0]?.vocabulary ?? null;
  }

  /** Makes the layers' modules for inputs of a shape, given without the batch's size. */
  build(inputShape: FreeShape, dtype?: DType): this {
    if (this.built) return this;
    const sizes = Array.isArray(inputShape) ? inputShape : [Number.NaN];
    if (!sizes.every((n) => n === null || (Number.isSafeInteger(n) && n > 0)) || sizes.length > 7) {
      throw new RangeError(
        `sequential: inputShape must be sizes of 1 or more, or null, got ${describe(inputShape)}`,
      );
    }
    const given = dtype ?? (this.vocabulary === null ? 'float32' : 'int64');
    // Layers are made in float32 and cast when all are there, so that what is tied stays tied.
    const type = this.precision && isFloating(given) ? 'float32' : given;
    noGrad(() => scope(() => this.assemble(sizes, type)));
    this.shape = [...sizes];
    return this.precision ? super.to(this.precision) : this;
  }

  private assemble(inputShape: FreeShape, dtype: DType): void {
    // Two inputs of different sizes show which sizes of a result are free.
    const fills = inputShape.includes(null) ? [32, 48] : [1];
    let probes = fills.map((fill) =>
      zeros([1, ...inputShape.map((n) => n ?? fill)], { dtype, device: this.place }),
    );
    const shapeOf = (): FreeShape => {
      const [a, b = a] = probes.map(({ shape }) => shape.slice(1)) as unknown as [Shape, Shape?];
      return a.map((n, axis) => (n === b[axis] ? n : null));
    };
    const [made, rows]: [Layer[], BuiltLayer[]] = [[], []];
    for (const [i, spec] of this.specs.entries()) {
      const name = this.names[i] as string;
      const shape = shapeOf();
      const found = (probes[0] as Tensor).dtype;
      this.expect(i, spec.needs(null), shape, found, [null, ...shape]);
      try {
        const modules = spec.build(shape, { device: this.place });
        for (const module of modules) module.eval();
        probes = probes.map((probe) => modules.reduce((x, module) => module.forward(x), probe));
        for (const module of modules) module.train(this.training);
        rows.push({
          ...{ name, kind: spec.kind, outputShape: shapeOf(), needs: spec.needs(shape) },
          ...{ first: made.length, count: modules.length },
        });
        made.push(...modules);
      } catch (error) {
        throw inLayer(name, i, error);
      }
    }
    this.layers.push(...made);
    this.rows = rows;
    for (const [i, { first, count }] of rows.entries()) if (count > 0) this.starts.set(first, i);
  }

  private expect(
    number: number,
    needs: Requirement,
    shape: FreeShape,
    dtype: DType,
    whole: FreeShape,
    more = '',
  ): void {
    if (needs.holds(shape, dtype)) return;
    const sizes = whole.map((n) => n ?? (whole.length > 0 ? '?' : '')).join();
    throw new RangeError(
      `sequential: layer ${number} '${this.names[number]}' expects ${needs.text}, got ${dtype}[${sizes}]${more}`,
    );
  }

  /** Throws where the first layer cannot take a tensor; indices are read and compared with its table. */
  checkInput(x: Tensor): void {
    const first = this.specs[0] as LazyLayer;
    const needs = this.rows[0]?.needs ?? first.needs(null);
    this.expect(0, needs, x.shape.slice(1), x.dtype, x.shape);
    if (first.vocabulary === undefined || x.size === 0) return;
    const [low, high] = scope(() => [min(x), max(x)].map((t) => Number(t.item()))) as [
      number,
      number,
    ];
    if (low >= 0 && high < first.vocabulary) return;
    throw new RangeError(
      `sequential: layer 0 '${this.names[0]}' expects ${needs.text}, got indices from ${low} to ${high}`,
    );
  }

  override forward(x: Tensor): Tensor {
    if (!this.built) this.build(x.shape.slice(1), x.dtype);
    return super.forward(x);
  }

  protected override run(i: number, count: number, x: Tensor): Tensor {
    const number = this.starts.get(i);
    if (number !== undefined) {
      const { needs } = this.rows[number] as BuiltLayer;
      this.expect(number, needs, x.shape.slice(1), x.dtype, x.shape);
    }
    try {
      return super.run(i, count, x);
    } catch (error) {
      const at = this.rows.findLastIndex(({ first }) => first <= i);
      throw inLayer(this.names[at] as string, at, error);
    }
  }

  override *namedChildren(): Generator<[string, Module]> {
    for (const { name, first, count } of this.rows) {
      for (let i = 0; i < count; ++i) {
        yield [i === 0 ? name : `${name}.${i}`, this.layers[first + i] as Layer];
      }
    }
  }

  override loadStateDict(state: StateDict, options: { strict?: boolean } = {}): void {
    if (!this.built) {
      throw new Error(
        'loadStateDict: the model must be built to take values, give it its inputShape; got one without sizes',
      );
    }
    super.loadStateDict(state, options);
  }

  override to(...targets: (DeviceLike | DType)[]): this {
    super.to(...targets);
    for (const target of targets) {
      if (isDType(target)) this.precision = target;
      else this.place = device(target);
    }
    return this;
  }
}
