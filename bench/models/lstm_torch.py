"""The LSTM steps by PyTorch: `lstm_torch.py lstm|keras-lstm THREADS`. Numbers as in lstm.ts, protocol
as in rival.ts."""

import json
import os
import re
import sys
import time

try:
    import torch
except ImportError as error:
    print(json.dumps({"missing": f"PyTorch: {error}"}), flush=True)
    sys.exit(0)

# Tokens, embedding, hidden, layers, dropout, outputs.
CLASSIFIERS = {"lstm": (25002, 100, 256, 2, 0.5, 2), "keras-lstm": (10000, 32, 128, 1, 0.0, 1)}
BATCH, STEPS = 32, 200
CHECKED_STEP = 9
WARM_UP = 40


class Model(torch.nn.Module):
    def __init__(self, tokens, embedding, hidden, layers, dropout, outputs):
        super().__init__()
        self.embedding = torch.nn.Embedding(tokens, embedding)
        self.lstm = torch.nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout)
        self.head = torch.nn.Linear(hidden, outputs)
        for at, p in enumerate(self.parameters()):
            numbers = torch.arange(p.numel()).mul(7919).add(13 * at).remainder(2001).double()
            bound = 1 if at == 0 else 1 / hidden**0.5
            with torch.no_grad():
                p.copy_(((numbers / 1000 - 1) * bound).float().reshape(p.shape))

    def forward(self, tokens):
        _, (h, _) = self.lstm(self.embedding(tokens))
        return self.head(h[-1])


def runner(sizes, dropout):
    tokens, embedding, hidden, layers, _, outputs = sizes
    model = Model(tokens, embedding, hidden, layers, dropout, outputs)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    x = torch.arange(BATCH * STEPS).mul(7919).remainder(tokens).reshape(BATCH, STEPS)
    y = torch.arange(BATCH) % 2
    if outputs > 1:
        criterion = torch.nn.CrossEntropyLoss()
    else:
        criterion, y = torch.nn.BCEWithLogitsLoss(), y.float()[:, None]

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return run


def main():
    sizes = CLASSIFIERS[sys.argv[1]]
    torch.set_num_threads(int(sys.argv[2]))
    # Without it a step takes several times as long: gradients fade over 200 steps.
    torch.set_flush_denormal(True)
    loss = runner(sizes, 0.0)(CHECKED_STEP + 1)
    run = runner(sizes, sizes[4])
    run(WARM_UP)
    config = torch.__config__.show()
    capability = re.search(r"CPU capability usage: (\S+)", config)
    details = [
        f"own loops {capability.group(1) if capability else 'unknown'}",
        f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}",
    ]
    about = {"version": f"PyTorch {torch.__version__}", "details": ", ".join(details), "loss": loss}
    print(json.dumps(about), flush=True)
    for line in sys.stdin:
        cpu, start = time.process_time(), time.perf_counter()
        run(int(line))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "cpuSeconds": cpu_seconds}), flush=True)


main()
