"""Writes numeric.json with PyTorch: /usr/bin/python3 test/vectors/numeric.py

Elementwise math, activations, statistics, scans, sorting and products; format as in generate.py.
"""
import importlib.util
import json
import os

import torch

FOLDER = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("generate", os.path.join(FOLDER, "generate.py"))
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


def cases():
    c = generate.Cases()
    c.seed = 5000
    f = torch.nn.functional
    domains = {
        "exp2": (-3, 3), "log2": (0.2, 4), "log10": (0.2, 4), "tan": (-1.2, 1.2),
        "asin": (-0.9, 0.9), "acos": (-0.9, 0.9), "atan": (-3, 3), "sinh": (-3, 3),
        "cosh": (-3, 3), "asinh": (-3, 3), "acosh": (1.2, 4), "atanh": (-0.9, 0.9),
        "erfc": (-2, 3),
    }
    for name, (low, high) in domains.items():
        c.add(name, getattr(torch, name), [((13,), low, high)])
    activations = {
        "logSigmoid": f.logsigmoid, "relu6": f.relu6, "hardtanh": f.hardtanh,
        # hardsigmoid's own derivative rounds 1/6 to float32.
        "hardsigmoid": lambda x: f.relu6(x + 3) / 6, "hardswish": f.hardswish, "elu": f.elu, "selu": f.selu,
        "mish": f.mish, "softsign": f.softsign, "leakyRelu": f.leaky_relu, "celu": f.celu,
        "geluTanh": lambda x: f.gelu(x, approximate="tanh"),
    }
    for name, function in activations.items():
        c.add(name, function, [((17,), -7.0, 7.0)])
    c.add("leakyRelu", lambda x: f.leaky_relu(x, 0.2), [((17,), -3.0, 3.0)], (0.2,))
    c.add("celu", lambda x: f.celu(x, 0.5), [((17,), -3.0, 3.0)], (0.5,))
    c.add("clamp", lambda x: torch.clamp(x, -1, 0.5), [((17,), -3.0, 3.0)], (-1, 0.5))
    c.add("clamp", torch.clamp, [((3, 4), -1.0, 1.0), ((4,), -1.0, 0.0), ((3, 1), 0.0, 1.0)])
    two = [((3, 4), 0.3, 5.0), ((4,), 0.5, 2.0)]
    for name in ("remainder", "fmod", "atan2", "hypot", "logaddexp"):
        c.add(name, getattr(torch, name), two)
    three = [((3, 4), 0.3, 5.0), ((4,), 0.5, 2.0), ((3, 1), 0.5, 2.0)]
    for name in ("lerp", "addcmul", "addcdiv"):
        c.add(name, getattr(torch, name), three)
    shape = ((3, 4, 5), -2.0, 2.0)
    for axes in (0, 1, (0, 2)):
        given = [axes] if isinstance(axes, int) else list(axes)
        c.add("variance", lambda x: torch.var(x, given), [shape], (given,))
        c.add("std", lambda x: torch.std(x, given, unbiased=True, keepdim=True), [shape],
              (given, {"keepdim": True}))
        c.add("variance", lambda x: torch.var(x, given, correction=0), [shape],
              (given, {"correction": 0}))
        c.add("logsumexp", lambda x: torch.logsumexp(x, given), [shape], (given,))
        for p in (1, 2, 3, 0.5):
            c.add("norm", lambda x: torch.linalg.vector_norm(x, p, given), [shape], (p, given))
    for axis in (0, 1, -1):
        c.add("cumsum", lambda x: torch.cumsum(x, axis), [shape], (axis,))
        c.add("cumprod", lambda x: torch.cumprod(x, axis), [shape], (axis,))
        c.add("sort", lambda x: torch.sort(x, axis)[0], [shape], (axis,))
        c.add("sort", lambda x: torch.sort(x, axis, descending=True)[0], [shape],
              (axis, {"descending": True}))
        c.add("topk", lambda x: torch.topk(x, 2, axis)[0], [shape], (2, axis))
        c.add("topk", lambda x: torch.topk(x, 2, axis, largest=False)[0], [shape],
              (2, axis, {"largest": False}))
        c.add("median", lambda x: torch.median(x, axis)[0], [shape], (axis,))
    unit = lambda *shape: (shape, -1.0, 1.0)
    c.add("outer", torch.outer, [unit(3), unit(4)])
    c.add("dot", torch.dot, [unit(7), unit(7)])
    c.add("mv", torch.mv, [unit(3, 4), unit(4)])
    c.add("bmm", torch.bmm, [unit(2, 3, 4), unit(2, 4, 5)])
    c.add("addmm", lambda x, a, b: torch.addmm(x, a, b, beta=0.5, alpha=2),
          [unit(5), unit(3, 4), unit(4, 5)], ({"beta": 0.5, "alpha": 2},))
    c.add("tensordot", lambda a, b: torch.tensordot(a, b, 2), [unit(2, 3, 4), unit(3, 4, 2)], (2,))
    c.add("trace", torch.trace, [unit(3, 5)])
    c.add("kron", torch.kron, [unit(2, 3), unit(3, 1)])
    for equation, shapes in (
        ("bij,bjk->bik", [(2, 3, 4), (2, 4, 2)]),
        ("...ij,jk->...ik", [(2, 2, 3), (3, 2)]),
        ("ij,kj,k->ik", [(2, 3), (4, 3), (4,)]),
        ("iij->j", [(3, 3, 2)]),
    ):
        c.add("einsum", lambda *x: torch.einsum(equation, *x), [unit(*s) for s in shapes],
              (equation,))
    for axis in (-1, 0):
        c.add("glu", lambda x: f.glu(x, axis), [unit(4, 6)], (axis,))
    c.add("leakyRelu", f.prelu, [unit(3, 4), unit(4)])
    for size in (1, 4, 9):
        c.add("adaptiveAvgPool1d", lambda x: f.adaptive_avg_pool1d(x, size), [unit(2, 3, 7)], (size,))
        c.add("adaptiveMaxPool1d", lambda x: f.adaptive_max_pool1d(x, size), [unit(2, 3, 7)], (size,))
    c.add("flatten", lambda x: torch.flatten(x, 1, 2), [unit(2, 3, 4, 2)], (1, 2))
    c.add("cosineSimilarity", lambda a, b: f.cosine_similarity(a, b, dim=-1),
          [unit(2, 1, 3), unit(4, 3)], ({"axis": -1},))
    c.add("cosineSimilarity", lambda a, b: f.cosine_similarity(a, b, dim=0),
          [unit(4, 1), unit(4, 5)], ({"axis": 0},))
    c.add("hingeLoss", lambda x, y: torch.relu(1 - x * y).mean(), [unit(7), unit(7)])
    return c.cases


text = {"torch": torch.__version__, "cases": cases()}
with open(os.path.join(FOLDER, "numeric.json"), "w") as file:
    json.dump(text, file, separators=(",", ":"))
    file.write("\n")
