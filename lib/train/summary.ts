/** A model as a table: layers, shapes of their results, counts of parameters. */
import { SequentialLayers } from '../layers/model.js';
import type { Module } from '../nn/module.js';

type Row = readonly [layer: string, shape: string, parameters: string];

/** Elements of the parameters and buffers of some modules, those that are trained counted apart. */
function counts(modules: Iterable<Module>): { trained: number; fixed: number } {
  const seen = new Set<unknown>();
  const total = { trained: 0, fixed: 0 };
  for (const module of modules) {
    for (const tensor of module.stateDict().values()) {
      if (seen.has(tensor)) continue;
      seen.add(tensor);
      total[tensor.gradient?.required ? 'trained' : 'fixed'] += tensor.size;
    }
  }
  return total;
}

const grouped = (n: number): string => n.toLocaleString('en-US');

function layerRows(model: Module): Row[] {
  if (model instanceof SequentialLayers) {
    return model.builtLayers.map(({ name, kind, outputShape, first, count }) => {
      const { trained, fixed } = counts(model.layers.slice(first, first + count));
      const shape = [null, ...outputShape].map((n) => n ?? '–').join(', ');
      const label = name === kind ? name : `${name} (${kind})`;
      return [label, `[${shape}]`, grouped(trained + fixed)];
    });
  }
  return [...model.namedChildren()].map(([name, child]) => {
    const { trained, fixed } = counts([child]);
    return [`${name} (${child.constructor.name})`, '', grouped(trained + fixed)];
  });
}

export function summarize(model: Module): string {
  if (model instanceof SequentialLayers && !model.built) {
    throw new Error('summary: the model is yet to be built; give it inputShape, or data');
  }
  const rows: Row[] = [['layer', 'output', 'parameters'], ...layerRows(model)];
  const widths = [0, 1, 2].map((column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = ([layer, shape, parameters]: Row): string =>
    `${layer.padEnd(widths[0] as number)}  ${shape.padEnd(widths[1] as number)}  ${parameters.padStart(widths[2] as number)}`;
  const rule = '─'.repeat(widths.reduce((a, b) => a + b, 4));
  const { trained, fixed } = counts([model]);
  const total = `parameters: ${grouped(trained + fixed)}, of which trained: ${grouped(trained)}`;
  const [head, ...body] = rows.map(line) as [string, ...string[]];
  return [head, rule, ...body, rule, total].join('\n');
}
