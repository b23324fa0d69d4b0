"""The MLP step by PyTorch: `mlp_torch.py THREADS`. Numbers and protocol as in mlp.ts, rival.ts."""

import ctypes
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

SIZES = [784, 256, 128, 10]
BATCH = 100
CHECKED_STEP = 9
WARM_UP = 40


def values(count, scale):
    return torch.arange(count, dtype=torch.int64).mul(7919).add(scale)


def build():
    layers = []
    for layer, (inputs, outputs) in enumerate(zip(SIZES, SIZES[1:])):
        linear = torch.nn.Linear(inputs, outputs)
        numbers = values(inputs * outputs, 13 * layer).remainder(2001).double()
        weight = (numbers / 1000 - 1) / inputs**0.5
        with torch.no_grad():
            linear.weight.copy_(weight.float().reshape(outputs, inputs))
            linear.bias.zero_()
        layers += [linear, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def libraries():
    """The BLAS and OpenMP libraries that this process has loaded, with OpenBLAS's choice of core."""
    with open("/proc/self/maps") as maps:
        text = maps.read()
    found = re.findall(r"/\S*/lib(?:\w*blas|mkl|gomp|iomp|dnnl)[^/\s]*\.so\S*", text)
    names = []
    for path in sorted({os.path.realpath(path) for path in found}):
        library = ctypes.CDLL(path)
        core = getattr(library, "openblas_get_corename", None)
        if core is not None:
            core.restype = ctypes.c_char_p
        kernels = f" ({core().decode()} kernels)" if core is not None else ""
        names.append(os.path.basename(path) + kernels)
    return names


def main():
    torch.set_num_threads(int(sys.argv[1]))
    model = build()
    criterion = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
    x = (values(BATCH * SIZES[0], 0).remainder(256).float() / 128 - 1).reshape(BATCH, SIZES[0])
    y = torch.arange(BATCH) % 10

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    loss = run(CHECKED_STEP + 1)
    run(WARM_UP)
    config = torch.__config__.show()
    capability = re.search(r"CPU capability usage: (\S+)", config)
    details = [
        f"own loops {capability.group(1) if capability else 'unknown'}",
        *libraries(),
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
