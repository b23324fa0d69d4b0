"""The kernels by PyTorch: `torch_kernels.py DEVICE FORM`. Ops as in nodegrad.ts, lines as in contest.ts.

FORM picks among PyTorch's own ways: `default`, `compiled` (torch.compile, of what it may fuse), `flash`
or `cudnn` (attention), `channels_last` (convolutions). On a GPU the timed step is a CUDA graph, as ours is.
"""

import contextlib
import json
import math
import struct
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(json.dumps({"missing": f"PyTorch: {error}"}), flush=True)
    sys.exit(0)

import memory_kernels

DEVICE = "cuda" if sys.argv[1].startswith("cuda") else "cpu"
FORM = sys.argv[2]
DTYPES = {
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "I64": torch.int64,
    "BOOL": torch.bool,
}
FORMS = {
    "compiled": {
        *("attention", "crossEntropy", "layerNorm", "rmsNorm", "batchNorm", "embedding", "copy"),
        *("sum", "softmax", "gelu", "dropout", "transpose", "gradNorm"),
        *("cast", "exp", "add", "addRow", "where", "flip", "cat", "pad", "mse", "smoothL1"),
        *("bceLogits", "nll", "smoothing", "rotary", "batchNorm2d", "groupNorm", "avgPool"),
    },
    "flash": {"attention"},
    "cudnn": {"attention"},
    "channels_last": {"conv"},
}


class Missing(Exception):
    """The form has nothing to offer for a case."""


def load(path):
    """The tensors of a safetensors file."""
    with open(path, "rb") as file:
        data = bytearray(file.read())
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        start, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        count = (end - start) // torch.empty(0, dtype=dtype).element_size()
        flat = torch.frombuffer(data, dtype=dtype, count=count, offset=8 + size + start)
        found[name] = flat.clone().reshape(entry["shape"])
    return found


def attention(inputs, sizes):
    options = {"is_causal": bool(sizes["causal"]), "dropout_p": sizes["dropout"] / 100}
    if sizes["keyHeads"] != sizes["heads"]:
        options["enable_gqa"] = True
    with attention_form():
        return F.scaled_dot_product_attention(
            inputs["q"], inputs["k"], inputs["v"], attn_mask=inputs.get("mask"), **options
        )


def attention_form():
    if FORM in ("default", "compiled"):
        return contextlib.nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    return sdpa_kernel(backends[FORM])


def exact_attention(inputs, sizes):
    """In plain products, for the reference in float32."""
    q, k, v = inputs["q"], inputs["k"], inputs["v"]
    share = sizes["heads"] // sizes["keyHeads"]
    k, v = k.repeat_interleave(share, 1), v.repeat_interleave(share, 1)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if sizes["causal"]:
        length = q.shape[-2]
        ahead = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(ahead, float("-inf"))
    if "mask" in inputs:
        scores = scores.masked_fill(~inputs["mask"], float("-inf"))
    return scores.softmax(-1) @ v


def recurrent(kind, inputs, sizes):
    layer = kind(sizes["input"], sizes["hidden"], sizes["layers"])
    layer = layer.to(inputs["x"].dtype).to(inputs["x"].device)
    with torch.no_grad():
        for name, weight in layer.named_parameters():
            weight.copy_(inputs[name])
    layer.flatten_parameters()
    for name, weight in layer.named_parameters():
        inputs[name] = weight
    if not sizes["ragged"]:
        return lambda given: layer(given["x"])[0]
    length, batch = sizes["length"], sizes["batch"]
    # Halves go up, as JavaScript rounds.
    lengths = [int(length - length * b / (2 * max(1, batch - 1)) + 0.5) for b in range(batch)]

    def run(given):
        packed = torch.nn.utils.rnn.pack_padded_sequence(given["x"], lengths)
        return torch.nn.utils.rnn.pad_packed_sequence(layer(packed)[0])[0]

    return run


def gemm(inputs, sizes):
    a, b = inputs["a"], inputs["b"]
    return (a.t() if sizes["layout"] == 2 else a) @ (b.t() if sizes["layout"] == 1 else b)


def conv(inputs, sizes):
    """Of images [N,C,H,W], or [N,H,W,C] where `last`."""
    x = inputs["x"].permute(0, 3, 1, 2) if sizes["last"] else inputs["x"]
    y = F.conv2d(x, inputs["weight"], inputs["bias"])
    return y.permute(0, 2, 3, 1) if sizes["last"] else y


OPS = {
    "gemm": gemm,
    "linear": lambda inputs, sizes: F.linear(inputs["x"], inputs["weight"], inputs["bias"]),
    "attention": attention,
    "conv": conv,
    **memory_kernels.OPS,
}
# Ops that keep parameters of their own: made once, and never on several sets of inputs.
STATEFUL = {
    "lstm": lambda inputs, sizes: recurrent(torch.nn.LSTM, inputs, sizes),
    "gru": lambda inputs, sizes: recurrent(torch.nn.GRU, inputs, sizes),
    **memory_kernels.STATEFUL,
}


def maker(item, inputs):
    """The op as a function of inputs."""
    if item["op"] in STATEFUL:
        return STATEFUL[item["op"]](inputs, item["sizes"])
    run = OPS[item["op"]]
    return lambda given: run(given, item["sizes"])


def timed(item, inputs):
    """The op as it is timed."""
    run = maker(item, inputs)
    if FORM != "compiled":
        return run
    torch._dynamo.reset()  # all cases are one function to it, of which it compiles a few forms only
    return torch.compile(run, dynamic=False)


def outputs_of(run, inputs, wanted, dout):
    if wanted is None:
        with torch.no_grad():
            return [run(inputs)]
    out = run(inputs)
    return [out, *torch.autograd.grad(out, [inputs[name] for name in wanted], dout)]


def relative_error(found, expected):
    difference = (found.double() - expected.double()).norm()
    error = float(difference / expected.double().norm().clamp_min(1e-30))
    return error if math.isfinite(error) else 1e30  # JSON has no other numbers


def reference(item, inputs, wanted, dout):
    """In float32 without TF32, from the same inputs."""
    allow_tf32(False)
    # Copies: optimizers change what they are given.
    wide = {n: x.clone().float() if x.is_floating_point() else x for n, x in inputs.items()}
    wide = {n: x.detach().requires_grad_(wanted is not None and n in wanted) for n, x in wide.items()}
    if item["op"] == "attention":
        run = lambda given: exact_attention(given, item["sizes"])
    else:
        run = maker(item, wide)
    return outputs_of(run, wide, wanted, None if dout is None else dout.float())


def allow_tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def graph_of(step):
    """The step as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


STEP = None
STEP_ERROR = None


def prepare(request):
    global STEP, STEP_ERROR
    STEP = None
    item, folder = request["item"], request["folder"]
    if FORM != "default" and item["op"] not in FORMS[FORM]:
        raise Missing(f"{FORM} has no {item['op']}")
    wanted = request["wanted"] if item["backward"] else None
    checked = request["checked"]
    inputs = {name: x.to(DEVICE) for name, x in load(f"{folder}/inputs.safetensors").items()}
    dout = inputs.pop("dout", None)
    errors = {}
    if checked and request["compare"]:
        expected = reference(item, inputs, wanted, dout)
        theirs = load(f"{folder}/outputs.safetensors")
        errors["ours"] = max(
            relative_error(theirs[f"out{i}"].to(DEVICE), e) for i, e in enumerate(expected)
        )
    allow_tf32(item["precision"] == "high")
    if FORM == "channels_last":
        images = {"weight"} if item["sizes"]["last"] else {"weight", "x"}
        inputs = {
            n: x.contiguous(memory_format=torch.channels_last) if n in images else x
            for n, x in inputs.items()
        }
        if dout is not None and "x" in images:
            dout = dout.contiguous(memory_format=torch.channels_last)
    sets = [inputs] + [
        {n: x.clone() for n, x in inputs.items()} for _ in range(request["sets"] - 1)
    ]
    for given in sets:
        for name in wanted or ():
            given[name].requires_grad_()
    run = timed(item, inputs)
    first = [x.detach().clone() for x in outputs_of(run, inputs, wanted, dout)]
    if checked and request["compare"]:
        errors["rival"] = max(relative_error(f, e) for f, e in zip(first, expected))
        del expected

    def step():
        for given in sets:
            outputs_of(run, given, wanted, dout)

    STEP = graph_of(step) if DEVICE == "cuda" else step
    STEP()
    synchronize()
    return {"sets": len(sets), "errors": errors}


def synchronize():
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def answer(request):
    if "item" in request:
        return prepare(request)
    start = time.perf_counter()
    for _ in range(request["steps"]):
        STEP()
    synchronize()
    return {"seconds": time.perf_counter() - start}


def main():
    torch.manual_seed(1)
    details = f"PyTorch {torch.__version__}"
    if DEVICE == "cuda":
        torch.cuda.set_device(torch.device(sys.argv[1]).index or 0)
        torch.backends.cudnn.benchmark = True
        name, cudnn = torch.cuda.get_device_name(), torch.backends.cudnn.version()
        details += f", CUDA {torch.version.cuda}, cuDNN {cudnn}, {name}"
    print(json.dumps({"version": f"PyTorch {FORM}", "details": details}), flush=True)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:  # one case must not end the contest
            reply = {"missing": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(reply), flush=True)


main()
