/** Judging generated digits by a small network that has learnt to read real ones. */
import { existsSync } from 'node:fs';
import {
  arange,
  DataLoader,
  type DeviceLike,
  loadCheckpoint,
  metrics,
  models,
  nn,
  noGrad,
  saveCheckpoint,
  type Tensor,
  type TensorDataset,
  tile,
  trainer,
} from 'nodegrad';

type Digits = TensorDataset<readonly [Tensor, Tensor]>;

export class Judge {
  /** The digits to generate: 0 … 9 again and again, int64. */
  readonly asked: Tensor;
  private readonly net: nn.Sequential;
  /** All layers but the last: 64 numbers per image. */
  private readonly features: nn.Sequential;

  /**
   * @param real images [N, 1, 28, 28] and digits [N] to learn from
   * @param unseen those from which distances are measured
   */
  constructor(
    private readonly real: Digits,
    private readonly unseen: Digits,
    private readonly device: DeviceLike,
  ) {
    const numbers = arange(10, { dtype: 'int64', device });
    this.asked = tile(numbers, [Math.ceil(unseen.length / 10)]);
    const sizes = { channels: [16, 32], hidden: 64, outputs: 10 };
    this.net = models.cnn({ input: [1, 28, 28], ...sizes, device });
    this.features = new nn.Sequential(...([...this.net.children()].slice(0, -1) as nn.Flatten[]));
  }

  /** Reads the checkpoint, where there is one; else trains for an epoch, and writes it. */
  async learn(signal: AbortSignal, file?: string): Promise<void> {
    const { device, real, unseen } = this;
    if (file && existsSync(file)) {
      await loadCheckpoint(file, { model: this.net });
    } else {
      const loss = { name: 'sparseCategoricalCrossentropy', fromLogits: true } as const;
      const school = trainer(this.net);
      school.compile({ optimizer: 'adam', loss, metrics: ['accuracy'] });
      const loader = new DataLoader(real, { batchSize: 64, shuffle: true, device });
      const { stopped } = await school.fit(loader, { signal });
      if (stopped) return;
      if (file) await saveCheckpoint(file, { model: this.net });
    }
    this.net.eval();
    const distance = this.distance(real.tensors[0].slice(0, 0, unseen.length).to(device));
    console.log(`judge: real digits are at a distance of ${distance.toFixed(2)}`);
  }

  /** Fréchet distance of the features of images from those of unseen real ones. */
  private distance(images: Tensor): number {
    const metric = new metrics.FrechetDistance();
    const unseen = this.unseen.tensors[0].to(this.device);
    noGrad(() => metric.update(this.features.forward(images), this.features.forward(unseen)));
    return metric.compute();
  }

  /** Says how far from real digits these are, and how many are taken for what was asked for. */
  look(name: string, images: Tensor): void {
    const accuracy = new metrics.SparseCategoricalAccuracy();
    noGrad(() => accuracy.update(this.net.forward(images), this.asked));
    const right = (100 * accuracy.compute()).toFixed(1);
    const distance = this.distance(images).toFixed(2);
    console.log(`${name}: distance ${distance}, ${right}% taken for the digit asked for`);
  }
}
