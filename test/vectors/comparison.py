"""Writes comparison.json with PyTorch: /usr/bin/python3 test/vectors/comparison.py

Comparisons, conditions, bounds, extremes and order, where numbers are equal, infinite or NaN too; and
derivatives at the places where a function has none.
"""
import math

import torch
import torch.nn.functional as F

from table import Table

T = Table(20000)
nan, inf = math.nan, math.inf
LEFT, RIGHT = [1, 2, nan, inf, -inf, 0.0, -0.0, 3], [1, 3, 1, inf, inf, -0.0, 0.0, nan]
TIES = [[3, 1, 3, 2], [0, 0, 0, 0], [-1, 5, 5, 5]]
BROKEN = [[1, nan, 3, nan], [inf, 2, -inf, 2], [nan, nan, nan, nan]]
COUNTS = [[4, -2, 4, 4], [0, 0, -7, -7], [9, 1, 1, 9]]


def comparisons():
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        f = getattr(torch, name)
        T.add(name, [T.given(LEFT), T.given(RIGHT)], f)
        T.add(name, [T.drawn(3, 1), T.given([0.1, -0.2])], f)
        T.add(name, [T.given(LEFT), 1], lambda x: f(x, 1))
        T.add(name, [T.given([2**40, -1, 3], torch.int64), T.given([5, -1, 4], torch.int32)], f)
        T.add(name, [T.given([0, 200, 255], torch.uint8), T.given([0.5], torch.float32)], f)
    names = {"logicalAnd": torch.logical_and, "logicalOr": torch.logical_or,
             "logicalXor": torch.logical_xor}
    for name, f in names.items():
        T.add(name, [T.given([0, -0.0, nan, inf, 2]), T.given([[0], [nan]])], f)
        T.add(name, [T.given([0, 3, 0, -1], torch.int32), T.given([0, 0, 2, 2], torch.uint8)], f)
        T.add(name, [T.given([True, False], torch.bool), T.given([[True], [False]], torch.bool)], f)
    tests = {"isnan": torch.isnan, "isinf": torch.isinf, "isfinite": torch.isfinite,
             "logicalNot": torch.logical_not}
    for name, f in tests.items():
        T.add(name, [T.given(LEFT)], f)
        T.add(name, [T.given([0, -3], torch.int64)], f)
    near = [T.given([1, 1.001, nan, inf, inf, 0]), T.given([1.000005, 1, nan, inf, -inf, 1e-9])]
    for options in ({}, {"rtol": 0.01}, {"atol": 0.1, "equalNan": True}, {"rtol": 0, "atol": 0}):
        given = {"equal_nan" if k == "equalNan" else k: v for k, v in options.items()}
        T.add("isclose", [*near, options], lambda a, b: torch.isclose(a, b, **given))
        T.add("allclose", [*near, options], lambda a, b: torch.allclose(a, b, **given))
    T.add("allclose", [T.given([3, 4], torch.int64), T.given([3, 4], torch.int64)], torch.allclose)


def bounds():
    for name in ("maximum", "minimum"):
        f = getattr(torch, name)
        T.add(name, [T.leaf([1, 2, 3, -0.0]), T.leaf([[1, 3, 2, 0], [1, 2, 3, 4]])], f)
        T.add(name, [T.given(LEFT), T.given(RIGHT)], f)
        T.add(name, [T.given([4, -4], torch.int64), T.given([[3], [-5]], torch.int32)], f)
    edge = [-2, -1, 0, 0.5, 2]
    T.add("clamp", [T.leaf(edge), -1, 0.5], lambda x: x.clamp(-1, 0.5))
    T.add("clamp", [T.leaf(edge), 0.5, -1], lambda x: x.clamp(0.5, -1))
    T.add("clamp", [T.leaf(edge), None, 0.5], lambda x: x.clamp(max=0.5))
    T.add("clamp", [T.leaf(edge), -1], lambda x: x.clamp(min=-1))
    T.add("clamp", [T.given(LEFT), -1, 2], lambda x: x.clamp(-1, 2))
    T.add("clamp", [T.given([-9, 0, 9], torch.int32), -3, 5], lambda x: x.clamp(-3, 5))
    T.add("clampMin", [T.leaf(edge), -1], lambda x: x.clamp(min=-1))
    T.add("clampMax", [T.leaf(edge), 0.5], lambda x: x.clamp(max=0.5))
    T.add("clampMin", [T.leaf(edge), T.leaf([[-1], [0]])], lambda x, b: x.clamp(min=b))
    T.add("clampMax", [T.leaf(edge), T.leaf([[-1], [0.5]])], lambda x, b: x.clamp(max=b))
    holds = T.given([[True, False, True]], torch.bool)
    T.add("where", [holds, T.drawn(2, 1), T.drawn(3)], torch.where)
    T.add("where", [holds, T.drawn(2, 3), T.leaf(0.5)], torch.where)
    T.add("where", [holds, T.given([nan, inf, 1]), T.given([1, 2, 3])], torch.where)
    T.add("where", [holds, T.given([7, 8, 9], torch.int64), T.given([1], torch.int32)], torch.where)
    T.add("nanToNum", [T.leaf([1, nan, inf, -inf, -2]), 0.5, 7, -8],
          lambda x: torch.nan_to_num(x, 0.5, 7, -8))
    T.add("nanToNum", [T.given([1, nan, inf, -inf], torch.float32)], torch.nan_to_num)


def places():
    for name in ("argmax", "argmin"):
        f = getattr(torch, name)
        for values, dtype in ((TIES, None), (BROKEN, None), (COUNTS, torch.int64)):
            T.add(name, [T.given(values, dtype)], f)
            T.add(name, [T.given(values, dtype), 0], lambda x: f(x, 0))
            T.add(name, [T.given(values, dtype), -1, True], lambda x: f(x, -1, True))
        T.add(name, [T.given([[[2, 9]], [[9, 2]]], torch.uint8), 1], lambda x: f(x, 1))
    for name in ("max", "min"):
        f = torch.amax if name == "max" else torch.amin
        T.add(name, [T.leaf(TIES), [1]], lambda x: f(x, [1]))
        T.add(name, [T.leaf(TIES), [0, 1], True], lambda x: f(x, [0, 1], True))
        T.add(name, [T.given(BROKEN), [0]], lambda x: f(x, [0]))
        T.add(name, [T.given(COUNTS, torch.int32), [1]], lambda x: f(x, [1]))
    for descending in (False, True):
        options = {"descending": descending}
        order = lambda x, a: torch.sort(x, dim=a, descending=descending, stable=True)
        for axis in (0, -1):
            T.add("sort", [T.drawn(4, 5), axis, options], lambda x: order(x, axis))
            T.add("sort", [T.leaf(TIES), axis, options], lambda x: order(x, axis))
            T.add("sort", [T.given(BROKEN), axis, options], lambda x: order(x, axis))
            T.add("argsort", [T.given(COUNTS, torch.int64), axis, options],
                  lambda x: order(x, axis)[1])
        T.add("sort", [T.given([3, 0, 255, 3], torch.uint8), 0, options], lambda x: order(x, 0))
        T.add("topk", [T.drawn(3, 6), 4, 1, {"largest": descending}],
              lambda x: torch.topk(x, 4, 1, descending))
        T.add("topk", [T.drawn(5, 2), 0, 0, {"largest": descending}],
              lambda x: torch.topk(x, 0, 0, descending))
        T.add("topk", [T.given([[5, -1, 7], [2, 9, 4]], torch.int32), 2, -1, {"largest": descending}],
              lambda x: torch.topk(x, 2, -1, descending))
    T.add("median", [T.given(BROKEN), 1], lambda x: torch.median(x, 1)[0])
    T.add("median", [T.given([5, 1, 4, 2], torch.int64)], torch.median)


def counts():
    f = {"any": lambda x, **o: torch.amax(x != 0, **o), "all": lambda x, **o: torch.amin(x != 0, **o),
         "countNonzero": lambda x, **o: (x != 0).sum(**o)}
    for name, function in f.items():
        for values, dtype in (([[0, nan, -0.0], [0, 0, 0]], None), ([[1, 0], [-3, 2]], torch.int32),
                              ([[True, True], [False, True]], torch.bool)):
            T.add(name, [T.given(values, dtype)], function)
            T.add(name, [T.given(values, dtype), 1], lambda x: function(x, dim=1))
            T.add(name, [T.given(values, dtype), [0, 1], True],
                  lambda x: function(x, dim=[0, 1], keepdim=True))


def masks():
    mask = T.given([[True], [False], [True]], torch.bool)
    T.add("maskedFill", [T.drawn(2, 3, 4), mask, -0.5], lambda x, m: x.masked_fill(m, -0.5))
    T.add("maskedFill", [T.drawn(3, 4), mask, T.leaf(2.5)], torch.masked_fill)
    T.add("maskedFill", [T.given([[1], [2], [3]], torch.int64), mask, 9],
          lambda x, m: x.masked_fill(m, 9))
    T.add("maskedSelect", [T.drawn(3, 4), mask], torch.masked_select)
    T.add("maskedSelect", [T.drawn(2, 1, 2), mask], torch.masked_select)
    T.add("maskedSelect", [T.given([4, 5], torch.int32), T.given([False, False], torch.bool)],
          torch.masked_select)
    T.add("nonzero", [T.given([[0, nan], [-0.0, 2]])], torch.nonzero)
    T.add("nonzero", [T.given([[[0, 1]], [[3, 0]]], torch.uint8)], torch.nonzero)
    T.add("nonzero", [T.given([0, 0], torch.int64)], torch.nonzero)
    T.add("oneHot", [T.given([[0, 2], [1, 1]], torch.int64), 4], lambda i: F.one_hot(i, 4))
    T.add("oneHot", [T.given(2, torch.int64), 3, {"dtype": "float32"}],
          lambda i: F.one_hot(i, 3).float())


def kinks():
    """Derivatives where the function has a corner, and what scans and products do at zeros."""
    simple = {"abs": torch.abs, "sign": torch.sign, "relu": torch.relu, "relu6": F.relu6,
              "hardtanh": F.hardtanh, "hardswish": F.hardswish,
              "leakyRelu": F.leaky_relu, "elu": F.elu, "selu": F.selu, "celu": F.celu,
              "softsign": F.softsign, "floor": torch.floor, "ceil": torch.ceil,
              "round": torch.round, "trunc": torch.trunc, "frac": torch.frac,
              # hardsigmoid's own derivative rounds 1/6 to float32.
              "hardsigmoid": lambda x: F.relu6(x + 3) / 6}
    for name, f in simple.items():
        T.add(name, [T.leaf([-6, -3, -1.5, -1, 0, 0.5, 1, 2.5, 3, 6])], f)
    T.add("logit", [T.drawn(7, low=0.05, high=0.95)], torch.logit)
    T.add("logit", [T.given([0, 1, -0.5, 1.5, 0.5])], torch.logit)
    zeros = [[2, 0, 3, 0, 5], [0, 1.5, -2, 4, 0.5], [1, 2, 3, 4, 0]]
    T.add("cumprod", [T.leaf(zeros), 1], lambda x: x.cumprod(1))
    T.add("cumprod", [T.leaf(zeros), 0], lambda x: x.cumprod(0))
    T.add("cumprod", [T.given([3, -2, 0, 5], torch.int32), 0], lambda x: x.cumprod(0))
    T.add("cumsum", [T.given([True, True, False], torch.bool), 0], lambda x: x.cumsum(0))
    T.add("cumsum", [T.given([200, 100, 255], torch.uint8), 0], lambda x: x.cumsum(0))
    T.add("prod", [T.leaf(zeros), [1]], lambda x: x.prod(1))
    T.add("sum", [T.given([[200, 100], [255, 1]], torch.uint8), [0]], lambda x: x.sum(0))
    T.add("norm", [T.leaf([[3, 0, -4], [0, 0, 0]]), 2, [1]],
          lambda x: torch.linalg.vector_norm(x, 2, 1))
    for p, text in ((inf, "inf"), (-inf, "-inf"), (0, 0)):
        T.add("norm", [T.given([[3, 0, -4], [0, 0, 0]]), text, [1]],
              lambda x: torch.linalg.vector_norm(x, p, 1))
    for name, f in (("remainder", torch.remainder), ("fmod", torch.fmod)):
        T.add(name, [T.leaf([-5.5, 5.5, -3.25]), T.leaf([[2], [-1.5]])], f)
    quotients = {"remainder": torch.remainder, "fmod": torch.fmod,
                 "floorDivide": lambda a, b: torch.div(a, b, rounding_mode="floor")}
    for name, f in quotients.items():
        T.add(name, [T.given([-7, 7, -8, 0], torch.int64), T.given([[2], [-3]], torch.int64)], f)
        T.add(name, [T.given([-7.5, 7.5, inf, nan]), T.given([[2], [-inf]])], f)
    T.add("varMean", [T.drawn(3, 4), 1], lambda x: torch.var_mean(x, 1))
    T.add("varMean", [T.drawn(3, 4), [0, 1], {"correction": 0, "keepdim": True}],
          lambda x: torch.var_mean(x, [0, 1], correction=0, keepdim=True))
    T.add("vdot", [T.drawn(5), T.drawn(5)], torch.vdot)


def integers():
    """Products of integers, which wrap around."""
    for dtype, big in ((torch.int64, 2**62), (torch.int32, 2**30), (torch.uint8, 129)):
        a = T.given([[1, 2, big], [3, 0, 7]], dtype)
        b = T.given([[5, 1], [big, 2], [4, 9]], dtype)
        v = T.given([3, big, 2], dtype)
        T.add("matmul", [a, b], torch.matmul)
        T.add("matmul", [v, b], torch.matmul)
        T.add("mv", [a, v], torch.mv)
        T.add("dot", [v, v], torch.dot)
        T.add("outer", [v, v], torch.outer)
        T.add("bmm", [T.given([[[2, 3]], [[4, 5]]], dtype), T.given([[[1], [7]], [[big], [9]]], dtype)],
              torch.bmm)
        T.add("matmul", [T.given([[[2, 3]], [[4, 5]]], dtype), T.given([[6, 7], [8, big]], dtype)],
              torch.matmul)
        T.add("addmm", [T.given([1, 2], dtype), a, b, {"beta": 3, "alpha": 2}],
              lambda x, a, b: torch.addmm(x, a, b, beta=3, alpha=2))
        T.add("tensordot", [a, b, [[1, 0], [0, 1]]],
              lambda a, b: torch.tensordot(a, b, [[1, 0], [0, 1]]))
        for equation in ("ij,jk->ik", "ij,jk->ki", "ij,ji->"):
            T.add("einsum", [equation, a, b], lambda a, b: torch.einsum(equation, a, b))
        T.add("einsum", ["ij->i", a], lambda a: torch.einsum("ij->i", a))
        T.add("trace", [a], torch.trace)


if __name__ == "__main__":
    comparisons()
    bounds()
    places()
    counts()
    masks()
    kinks()
    integers()
    T.write("comparison")
