/** Optimizers against PyTorch's (test/vectors/optimizers.json and training.json). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { nn, optim, scope, type Tensor } from '../../lib/index.js';
import { expectClose, valuesOf } from '../support/compare.js';
import { devices } from '../support/devices.js';
import { nd } from '../support/nd.js';
import { readVectors, uniformOf } from '../support/vectors.js';

interface Case {
  optimizer: 'SGD' | 'Adam' | 'AdamW' | 'RMSprop' | 'Adagrad' | 'Adadelta' | 'Lion';
  options: Record<string, unknown>;
  shapes: number[][];
  /** Per step, per parameter, its values. */
  steps: number[][][];
}

const training = JSON.parse(
  readFileSync(new URL('../vectors/training.json', import.meta.url), 'utf8'),
) as { optimizers: Case[] };
const named = [...readVectors<Case>('optimizers').cases, ...training.optimizers].map(
  (entry) => [`${entry.optimizer} ${JSON.stringify(entry.options)}`, entry] as const,
);

describe.each(devices)('optimizers on $name', (device) => {
  describe.each(['float32', 'float64'] as const)('in %s', (dtype) => {
    const within = dtype === 'float32' ? 1e-5 : 1e-10;

    it.each(named)('%s, ten steps', (_, { optimizer: name, options, shapes, steps }) => {
      scope(() => {
        const parameters = shapes.map((shape, i) =>
          nn.parameter(
            uniformOf(500 + i, shape)
              .to(dtype, device)
              .detach(),
          ),
        );
        const optimizer = new optim[name](parameters, options);
        steps.forEach((expected, step) => {
          optimizer.zeroGrad();
          parameters.forEach((parameter, i) => {
            const gradient = uniformOf(600 + 10 * step + i, parameter.shape).to(dtype, device);
            parameter.mul(gradient).sum().backward();
          });
          optimizer.step();
          parameters.forEach((parameter, i) => {
            const values = nd(parameter.shape, expected[i] as number[]);
            expectClose(
              valuesOf(parameter.detach()),
              values,
              within,
              `step ${step}, parameter ${i}`,
            );
          });
        });
        for (const parameter of parameters) parameter.dispose();
      });
    });

    it.each(named)('%s, by apply()', (_, { optimizer: name, options, shapes, steps }) => {
      scope(() => {
        const parameters = shapes.map((shape, i) =>
          nn.parameter(
            uniformOf(500 + i, shape)
              .to(dtype, device)
              .detach(),
          ),
        );
        const optimizer = new optim[name](parameters, options);
        for (let step = 0; step < 10; ++step) {
          const gradients: Tensor[] = parameters.map((parameter, i) =>
            uniformOf(600 + 10 * step + i, parameter.shape).to(dtype, device),
          );
          optimizer.apply(gradients);
          for (const parameter of parameters) expect(parameter.grad).toBeNull();
        }
        parameters.forEach((parameter, i) => {
          const values = nd(parameter.shape, steps.at(-1)?.[i] as number[]);
          expectClose(valuesOf(parameter.detach()), values, within, `parameter ${i}`);
        });
        for (const parameter of parameters) parameter.dispose();
      });
    });
  });
});
