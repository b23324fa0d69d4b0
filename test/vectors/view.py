"""Writes view.json with PyTorch: /usr/bin/python3 test/vectors/view.py

Views and their gradients, parts, tensors that are made of numbers, casts, and integers on the move.
"""
import torch

from table import Table, name_of

T = Table(30000)
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
INTEGERS = (torch.int64, torch.int32, torch.uint8)


def views():
    for shape in ([4, 3, 2], [-1, 6], [24], [1, 24, 1]):
        T.add("reshape", [T.drawn(2, 3, 4), shape], lambda x: x.reshape(shape))
    T.add("reshape", [T.drawn(1), []], lambda x: x.reshape([]))
    for axes in ([2, 0, 1], [0, 2, 1], [-1, 1, 0]):
        T.add("permute", [T.drawn(2, 3, 4), axes], lambda x: x.permute(axes))
    T.add("transpose", [T.drawn(2, 3, 4)], lambda x: x.transpose(-2, -1))
    T.add("transpose", [T.drawn(2, 3, 4), 0, -1], lambda x: x.transpose(0, -1))
    T.add("swapaxes", [T.drawn(2, 3), 0, 1], lambda x: x.swapaxes(0, 1))
    for shape in ([2, 3, 4], [5, 2, 3, -1]):
        T.add("expand", [T.drawn(2, 1, 4), shape], lambda x: x.expand(shape))
    T.add("broadcastTo", [T.drawn(3, 1), [2, 3, 2]], lambda x: x.broadcast_to([2, 3, 2]))
    T.add("expandAs", [T.drawn(3, 1), T.given([[0, 0]] * 3)], lambda x, y: x.expand_as(y))
    T.add("squeeze", [T.drawn(1, 3, 1, 2)], torch.squeeze)
    T.add("squeeze", [T.drawn(1, 3, 1), -1], lambda x: x.squeeze(-1))
    T.add("squeeze", [T.drawn(1, 3, 1), 1], lambda x: x.squeeze(1))
    T.add("squeeze", [T.drawn(1, 3, 1), [0, 2]], lambda x: x.squeeze(2).squeeze(0))
    for axis in (0, 2, -1):
        T.add("unsqueeze", [T.drawn(2, 3), axis], lambda x: x.unsqueeze(axis))
    T.add("flatten", [T.drawn(2, 3, 2)], torch.flatten)
    for axis, index in ((0, 1), (1, -1), (-1, 0)):
        T.add("select", [T.drawn(2, 3, 4), axis, index], lambda x: x.select(axis, index))
    T.add("slice", [T.drawn(7, 2), 0, 1], lambda x: x[1:])
    T.add("slice", [T.drawn(7, 2), 0, -5, -1], lambda x: x[-5:-1])
    T.add("slice", [T.drawn(2, 7), 1, 1, 6, 2], lambda x: x[:, 1:6:2])
    T.add("slice", [T.drawn(2, 7), -1, 0, 99, 3], lambda x: x[:, ::3])
    T.add("slice", [T.drawn(7), 0, 5, 1, -2], lambda x: x[[5, 3]])
    T.add("slice", [T.drawn(4), 0, 3, 2], lambda x: x[3:2])
    T.add("at", [T.drawn(3, 4), 1], lambda x: x[1])
    T.add("at", [T.drawn(3, 4), None, [1, 4, 2]], lambda x: x[:, 1:4:2])
    T.add("at", [T.drawn(3, 4, 2), [1], -1], lambda x: x[1:, -1])
    T.add("alias", [T.drawn(2, 3)], lambda x: x.view_as(x))
    T.add("detach", [T.drawn(2, 3)], torch.detach)
    T.add("clone", [T.drawn(2, 3)], torch.clone)
    T.add("contiguous", [T.drawn(2, 3)], lambda x: x.contiguous())
    T.add("copyInto", [T.given([[0.5] * 3] * 2), T.given([1, 2, 3], torch.int32)],
          lambda out, x: out.copy_(x))


def parts():
    T.add("split", [T.drawn(5, 2), 2], lambda x: x.split(2))
    T.add("split", [T.drawn(2, 6), [1, 0, 3, 2], 1], lambda x: x.split([1, 0, 3, 2], 1))
    for count in (1, 3, 4):
        T.add("chunk", [T.drawn(2, 7), count, -1], lambda x: x.chunk(count, -1))
    T.add("unbind", [T.drawn(3, 2)], torch.unbind)
    T.add("unbind", [T.drawn(2, 3), 1], lambda x: x.unbind(1))
    for indexing in ("ij", "xy"):
        T.add("meshgrid", [[T.drawn(2), T.drawn(3), T.drawn(2)], indexing],
              lambda *x: torch.meshgrid(*x, indexing=indexing))


def made():
    for given in ([5], [2, 7], [1, 10, 3], [7, -2, -2]):
        T.add("arange", given, lambda: torch.arange(*given))
    T.add("arange", [0, 1, 0.3], lambda: torch.arange(0, 1, 0.3), within=1e-6)
    for dtype in (torch.float64, torch.float16, torch.int32, torch.uint8):
        T.add("arange", [2, 9, 2, {"dtype": name_of(dtype)}],
              lambda: torch.arange(2, 9, 2, dtype=dtype))
    for dtype, within in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        options = {"dtype": name_of(dtype)}
        for given in ([-2, 3, 7], [1, 0, 2], [4, 9, 1], [0, 1, 0]):
            T.add("linspace", [*given, options], lambda: torch.linspace(*given, dtype=dtype),
                  within=within)
        T.add("logspace", [-1, 2, 4, 10, options], lambda: torch.logspace(-1, 2, 4, dtype=dtype),
              within=within)
        T.add("logspace", [0, 3, 4, 2, options],
              lambda: torch.logspace(0, 3, 4, 2, dtype=dtype), within=within)
    T.add("eye", [3], lambda: torch.eye(3))
    T.add("eye", [2, 4, {"dtype": "int64"}], lambda: torch.eye(2, 4, dtype=torch.int64))
    T.add("tensor", [[[1, 2], [3.5, -4]]], lambda: torch.tensor([[1, 2], [3.5, -4]]))
    T.add("tensor", [[True, False]], lambda: torch.tensor([True, False]))
    for dtype in (*FLOATS, *INTEGERS, torch.bool):
        options = {"dtype": name_of(dtype)}
        like = T.given([[1, 0]], dtype)
        T.add("full", [[2, 2], 1, options], lambda: torch.full([2, 2], 1, dtype=dtype))
        T.add("zeros", [[3], options], lambda: torch.zeros(3, dtype=dtype))
        T.add("ones", [[1, 2], options], lambda: torch.ones(1, 2, dtype=dtype))
        T.add("fullLike", [like, 1], lambda x: torch.full_like(x, 1))
        T.add("zerosLike", [like], torch.zeros_like)
        T.add("onesLike", [like], torch.ones_like)


def casts():
    """Numbers that the dtype they go to can hold; C++ leaves what becomes of others open."""
    fractions = [0, 0.25, 1, 1.75, 2.9, 100.6, 255, 1 / 3, 2 + 2**-9, 3 * 2**-11]
    below = [-0.75, -1.5, -2.9, -100]
    for source in (*FLOATS, *INTEGERS, torch.bool):
        for target in (*FLOATS, *INTEGERS, torch.bool):
            values = [0, 1, 3, 200, 255]
            if source.is_floating_point:
                values = fractions if target == torch.uint8 else fractions + below
            elif source == torch.bool:
                values = [True, False]
            elif source != torch.uint8:
                # Integers of other sizes wrap.
                values = [*values, -1, -300, 70000, 2**31 - 1]
                if source == torch.int64:
                    values = [*values, 2**32 + 5, -(2**33) - 1, 2**53 + 1]
            if target == torch.float16:
                values = [v for v in values if abs(v) < 65000]
            T.add("cast", [T.given(values, source), name_of(target)], lambda x: x.to(target))
    for dtype in (torch.bfloat16, torch.float16):
        for op in ("to", "cast"):
            T.add(op, [T.drawn(2, 3), name_of(dtype)], lambda x: x.to(dtype))
    special = [float("nan"), float("inf"), -float("inf"), 3e38, 70000, 1e-40, 6e-8]
    for target in FLOATS:
        T.add("cast", [T.given(special, torch.float32), name_of(target)], lambda x: x.to(target))


def moved():
    """Ops that move elements, for dtypes without a gradient."""
    for dtype in INTEGERS:
        x = T.given([[5, 1, 9], [7, 3, 2]], dtype)
        index = T.given([[0, 2], [1, 1]], torch.int64)
        values = T.given([[4, 6], [8, 1]], dtype)
        T.add("gather", [x, 1, index], lambda x, i: x.gather(1, i))
        T.add("scatter", [x, 1, T.given([[0, 2], [1, 0]], torch.int64), values],
              lambda x, i, v: x.scatter(1, i, v))
        T.add("scatterAdd", [x, 1, index, values], lambda x, i, v: x.scatter_add(1, i, v))
        T.add("indexSelect", [x, T.given([2, 0, 2], torch.int64), 1],
              lambda x, i: x.index_select(1, i))
        T.add("tril", [x, -1], lambda x: x.tril(-1))
        T.add("triu", [x, 1], lambda x: x.triu(1))
        T.add("flip", [x, [0, 1]], lambda x: x.flip([0, 1]))
        T.add("roll", [x, 1, 1], lambda x: x.roll(1, 1))
        T.add("diag", [x, 1], lambda x: x.diag(1))
        T.add("cat", [[x, values], 1], lambda *x: torch.cat(x, 1))
        T.add("pad", [x, [1, 0, 0, 1], "constant", 7],
              lambda x: torch.nn.functional.pad(x, [1, 0, 0, 1], value=7))


if __name__ == "__main__":
    views()
    parts()
    made()
    casts()
    moved()
    T.write("view")
