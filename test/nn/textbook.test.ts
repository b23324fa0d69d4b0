/** What textbooks work out by hand, with their numbers. */
import { describe, expect, it } from 'vitest';
import * as ng from '../../lib/index.js';
import { nn, optim, type Tensor } from '../../lib/index.js';
import { devices } from '../support/devices.js';

describe.each(devices)('by hand on $name', (device) => {
  const place = { dtype: 'float64', device } as const;
  const scalar = (value: number): Tensor => ng.full([], value, place).detach().requireGrad();
  const of = (x: Tensor | null): number => Number(x?.item());

  // Whatever the sign of a zero.
  const same = (found: number, expected: number): void =>
    expect(Math.abs(found - expected)).toBe(0);

  it.each([
    [1, 1],
    [-1, 0],
  ])('one ReLU neuron with half the squared error, weights times %i', (sign, open) => {
    ng.scope(() => {
      // z = w·x + b, y = max(z, 0), L = (y - t)²/2
      const [x, t, lr] = [2, 4, 0.1];
      const [w, b] = [0.5 * sign, 0.25 * sign];
      const y = open * (w * x + b);
      const weight = nn.parameter(scalar(w).detach());
      const bias = nn.parameter(scalar(b).detach());
      const input = scalar(x);
      const output = weight.mul(input).add(bias).relu();
      output.retainGrad();
      const loss = nn.mseLoss(output, ng.full([], t, place), { half: true });
      same(of(output), y);
      same(of(loss), (y - t) ** 2 / 2);
      loss.backward();
      same(of(output.grad), y - t);
      same(of(weight.grad), (y - t) * open * x);
      same(of(bias.grad), (y - t) * open);
      same(of(input.grad), (y - t) * open * w);
      new optim.SGD([weight, bias], { lr }).step();
      same(of(weight), w - lr * (y - t) * open * x);
      same(of(bias), b - lr * (y - t) * open);
    });
  });

  it('half the sum of squared errors', () => {
    ng.scope(() => {
      const x = ng.tensor([1, 2, 4], place).requireGrad();
      const target = ng.tensor([0, 4, 1], place);
      const loss = nn.mseLoss(x, target, { reduction: 'sum', half: true });
      expect(of(loss)).toBe((1 + 4 + 9) / 2);
      loss.backward();
      expect(x.grad?.toArray()).toEqual([1, -2, 3]);
    });
  });

  it("momentum in the classical form, v ← γv + α∇ and w ← w - v, in PyTorch's and Nesterov's", () => {
    const gradients = [1, -2, 0.5];
    const walk = (options: Partial<optim.SGDOptions>, alphas: number[]): number[] =>
      ng.scope(() => {
        const w = nn.parameter(scalar(1).detach());
        const sgd = new optim.SGD([w], options);
        return gradients.map((g, i) => {
          sgd.lr = alphas[i] as number;
          w.zeroGrad();
          w.mul(g).backward();
          sgd.step();
          return of(w);
        });
      });
    const alphas = [0.1, 0.1, 0.05];
    const gamma = 0.5;
    const [classical, torch, nesterov] = [[], [], []] as [number[], number[], number[]];
    let [v, w, u, p, n] = [0, 1, 0, 1, 1];
    gradients.forEach((g, i) => {
      const alpha = alphas[i] as number;
      v = gamma * v + alpha * g;
      w -= v;
      classical.push(w);
      u = i === 0 ? g : gamma * u + g;
      p -= alpha * u;
      torch.push(p);
      n -= alpha * (g + gamma * u);
      nesterov.push(n);
    });
    const close = (found: number[], expected: number[]): void =>
      found.forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i] as number, 12);
      });
    close(walk({ lr: 0.1, momentum: gamma, form: 'classical' }, alphas), classical);
    close(walk({ lr: 0.1, momentum: gamma }, alphas), torch);
    close(walk({ lr: 0.1, momentum: gamma, nesterov: true }, alphas), nesterov);
    // 1, 0.9, 1.05: the velocity carries half of the step before.
    close(classical.slice(0, 2), [0.9, 1.05]);
  });

  it('Adam with bias correction moves by the learning rate at first', () => {
    ng.scope(() => {
      const w = nn.parameter(scalar(1).detach());
      const adam = new optim.Adam([w], { lr: 0.01, betas: [0.9, 0.999], eps: 1e-8 });
      let [m, v, expected] = [0, 0, 1];
      [3, -1, 0.5].forEach((g, i) => {
        w.zeroGrad();
        w.mul(g).backward();
        adam.step();
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        const corrected = m / (1 - 0.9 ** (i + 1));
        expected -= (0.01 * corrected) / (Math.sqrt(v / (1 - 0.999 ** (i + 1))) + 1e-8);
        expect(of(w)).toBeCloseTo(expected, 12);
        if (i === 0) expect(of(w)).toBeCloseTo(0.99, 9);
      });
    });
  });

  it('sinusoidal positions: sines on even columns, cosines on odd ones', () => {
    ng.scope(() => {
      const [zero, one] = nn.sinusoidalPositions(2, 4, place).toArray() as [number[], number[]];
      expect(zero).toEqual([0, 1, 0, 1]);
      [Math.sin(1), Math.cos(1), Math.sin(0.01), Math.cos(0.01)].forEach((value, i) => {
        expect(one[i]).toBeCloseTo(value, 12);
      });
    });
  });
});
