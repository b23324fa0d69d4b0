"""The step of the small transformer by PyTorch: `gpt_torch.py THREADS`; numbers as in gpt.ts."""

import json
import os
import sys
import time

try:
    import torch
except ImportError as error:
    print(json.dumps({"missing": f"PyTorch: {error}"}), flush=True)
    sys.exit(0)

LAYERS, HEADS, WIDTH, LENGTH, BATCH, VOCABULARY = 4, 4, 128, 64, 12, 65
CHECKED_STEP = 9
WARM_UP = 40


class Positions(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(LENGTH, WIDTH))


class Gpt(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.characters = torch.nn.Parameter(torch.zeros(VOCABULARY, WIDTH))
        self.positions = Positions()
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)

    def forward(self, tokens):
        x = torch.nn.functional.embedding(tokens, self.characters) + self.positions.weight
        for layer in self.layers:
            x = layer(x, self.mask)
        return self.head(self.norm(x)).reshape(BATCH * LENGTH, VOCABULARY)


def fill(model):
    for place, (name, parameter) in enumerate(sorted(model.named_parameters())):
        with torch.no_grad():
            if "norm" in name or name.endswith("bias"):
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                continue
            numbers = torch.arange(parameter.numel(), dtype=torch.int64) * 7919 + 13 * place
            numbers = (numbers.remainder(2001).double() / 1000 - 1) * 0.05
            parameter.copy_(numbers.float().reshape(parameter.shape))


def main():
    torch.set_num_threads(int(sys.argv[1]))
    model = Gpt()
    fill(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    t = torch.arange(LENGTH + 1)
    tokens = (torch.arange(BATCH)[:, None] * 31 + t * t * 7 + t) % VOCABULARY
    x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    loss = run(CHECKED_STEP + 1)
    run(WARM_UP)
    details = f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}"
    about = {"version": f"PyTorch {torch.__version__}", "details": details, "loss": loss}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        cpu, start = time.process_time(), time.perf_counter()
        run(int(line))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds}), flush=True)


main()
