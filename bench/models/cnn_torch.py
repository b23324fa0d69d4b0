"""The CNN step by PyTorch: `cnn_torch.py THREADS`. Numbers and protocol as in cnn.ts, rival.ts."""

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

BATCH = 32
CHANNELS = [3, 32, 64, 128]
SIDE = 150
HIDDEN = 512
CHECKED_STEP = 9
WARM_UP = 3


def values(count, scale):
    return torch.arange(count, dtype=torch.int64).mul(7919).add(scale)


def build():
    layers, side = [], SIDE
    for inputs, outputs in zip(CHANNELS, CHANNELS[1:]):
        layers += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        side = (side - 2) // 2
    layers += [torch.nn.Flatten(), torch.nn.Linear(CHANNELS[-1] * side * side, HIDDEN)]
    layers += [torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)]
    model = torch.nn.Sequential(*layers)
    with torch.no_grad():
        for at, parameter in enumerate(model.parameters()):
            if parameter.dim() == 1:
                parameter.zero_()
                continue
            fan_in = parameter.numel() // parameter.shape[0]
            numbers = values(parameter.numel(), 13 * at).remainder(2001).double()
            weight = (numbers / 1000 - 1) / fan_in**0.5
            parameter.copy_(weight.float().reshape(parameter.shape))
    return model


def main():
    torch.set_num_threads(int(sys.argv[1]))
    model = build()
    criterion = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    shape = (BATCH, CHANNELS[0], SIDE, SIDE)
    count = BATCH * CHANNELS[0] * SIDE * SIDE
    x = (values(count, 0).remainder(2039).double() / 2039).float().reshape(shape)
    y = (torch.arange(BATCH) % 2).float().reshape(BATCH, 1)

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    loss = run(CHECKED_STEP + 1)
    run(WARM_UP)
    capability = re.search(r"CPU capability usage: (\S+)", torch.__config__.show())
    details = [
        f"own loops {capability.group(1) if capability else 'unknown'}",
        f"oneDNN {'on' if torch.backends.mkldnn.is_available() else 'off'}",
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
