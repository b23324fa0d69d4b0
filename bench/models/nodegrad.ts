/** What our own rivals share: a program calls `serveSteps` with its model, step and batch. */
import { readFileSync } from 'node:fs';
import {
  autocast,
  capture,
  type nn,
  setDefaultDevice,
  setMatmulBackend,
  setMatmulPrecision,
  setNumThreads,
  steps,
  type Tensor,
} from 'nodegrad';
import { type ServeOptions, serve } from './rival.js';

// The last arguments of every such program: eager|captured THREADS.
const [mode, threads] = process.argv.slice(-2);
setNumThreads(Number(threads));
const { BENCH_DEVICE: place = 'cpu', BENCH_PRECISION: precision = 'float32' } = process.env;
// Before the programs make their models: they import this module first.
setDefaultDevice(place);
setMatmulBackend('own');
if (precision !== 'float32') setMatmulPrecision('high');
const mixed = { dtype: 'bfloat16', enabled: precision === 'bfloat16' } as const;

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
) as { version: string };

/** The usual step: forward, backward, update. */
export function stepOf(
  optimizer: { zeroGrad(): void; step(): void },
  lossOf: (x: Tensor, y: Tensor) => Tensor,
): (x: Tensor, y: Tensor) => Tensor {
  return (x, y) => {
    optimizer.zeroGrad();
    const loss = mixed.enabled ? autocast(mixed, () => lossOf(x, y)) : lossOf(x, y);
    loss.backward();
    optimizer.step();
    return loss;
  };
}

/** Serves steps on one batch; the first of them, whose loss is compared, run without dropout. */
export async function serveSteps(
  model: nn.Module,
  step: (x: Tensor, y: Tensor) => Tensor,
  [x, y]: readonly [Tensor, Tensor],
  options: ServeOptions = {},
): Promise<void> {
  const captured = mode === 'captured' ? capture(step) : null;
  x.keep();
  y.keep();
  model.eval();
  await serve(
    {
      version: `nodegrad ${version}`,
      details: `own kernels, ${place}, ${precision}, Node.js ${process.version}`,
    },
    async (count) => {
      for (const i of steps(count)) {
        const loss = captured ? await captured(x, y) : step(x, y);
        if (i === count - 1) return (await loss.read())[0] as number;
      }
      return Number.NaN;
    },
    { ...options, afterCheck: () => void model.train() },
  );
}
