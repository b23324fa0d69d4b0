"""What PyTorch's rivals share: numbers by formula as in values.ts, and the protocol of rival.ts."""

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

PLACE = os.environ.get("BENCH_DEVICE", "cpu")
DEVICE = PLACE if PLACE.startswith("cuda") else "cpu"
PRECISION = os.environ.get("BENCH_PRECISION", "float32")
COMPILED = os.environ.get("BENCH_FORM") == "compiled"
TINY = os.environ.get("BENCH_TINY") == "1"
if DEVICE != "cpu":
    torch.cuda.set_device(torch.device(DEVICE).index or 0)
    torch.set_default_device(DEVICE)
    torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = PRECISION != "float32"
torch.backends.cudnn.allow_tf32 = PRECISION != "float32"


def formula(count, shift, modulus):
    return torch.arange(count, dtype=torch.int64).mul(7919).add(shift).remainder(modulus).double()


def fill(parameter, at, bound):
    """Gives parameter number `at` its first values, in plus or minus bound."""
    with torch.no_grad():
        numbers = (formula(parameter.numel(), 13 * at, 2001) / 1000 - 1) * bound
        parameter.copy_(numbers.float().reshape(parameter.shape))


def fill_named(model, bound):
    """Those of a transformer, by sorted name: norms 1 and 0, other biases 0, weights +-bound."""
    for place, (name, parameter) in enumerate(sorted(model.named_parameters())):
        norm = "norm" in name
        if norm or name.endswith("bias"):
            value = 1.0 if norm and name.endswith("weight") else 0.0
            torch.nn.init.constant_(parameter, value)
        else:
            fill(parameter, place, bound)


def libraries():
    """The BLAS and OpenMP libraries that this process has loaded, with OpenBLAS's choice of core."""
    with open("/proc/self/maps") as maps:
        text = maps.read()
    found = re.findall(r"/\S*/lib(?:\w*blas|mkl|gomp|iomp|dnnl)[^/\s]*\.so\S*", text)
    names = []
    for path in sorted({os.path.realpath(path) for path in found}):
        core = getattr(ctypes.CDLL(path), "openblas_get_corename", None)
        if core is not None:
            core.restype = ctypes.c_char_p
        kernels = f" ({core().decode()} kernels)" if core is not None else ""
        names.append(os.path.basename(path) + kernels)
    return names


def details_of_cpu():
    capability = re.search(r"CPU capability usage: (\S+)", torch.__config__.show())
    return [
        f"own loops {capability.group(1) if capability else 'unknown'}",
        *libraries(),
        f"OPENBLAS_NUM_THREADS={os.environ.get('OPENBLAS_NUM_THREADS', 'unset')}",
    ]


def details_of_gpu():
    cudnn = torch.backends.cudnn.version()
    return [torch.cuda.get_device_name(), f"CUDA {torch.version.cuda}", f"cuDNN {cudnn}", PRECISION]


def answer(what):
    print(json.dumps(what), flush=True)


def serve(model, optimizer, loss_of, checked=10, warm_up=40):
    """Answers how long steps take, after `checked` ones without dropout whose last loss it tells."""

    if TINY:
        checked, warm_up = 2, 1
    if DEVICE != "cpu":
        for group in optimizer.param_groups:
            group["fused"] = True

    def mixed():
        with torch.autocast("cuda", torch.bfloat16, enabled=PRECISION == "bfloat16"):
            return loss_of()

    forward = loss_of if DEVICE == "cpu" else mixed
    if COMPILED:
        forward = torch.compile(forward, mode="reduce-overhead")

    def run(count):
        for _ in range(count):
            optimizer.zero_grad(set_to_none=True)
            loss = forward()
            loss.backward()
            optimizer.step()
        return loss.item()

    model.eval()
    loss = run(checked)
    model.train()
    run(warm_up)
    details = ", ".join(details_of_cpu() if DEVICE == "cpu" else details_of_gpu())
    answer({"version": f"PyTorch {torch.__version__}", "details": details, "loss": loss})
    for line in sys.stdin:
        cpu, start = time.process_time(), time.perf_counter()
        run(int(line))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        answer({"seconds": seconds, "cpuSeconds": cpu_seconds})
