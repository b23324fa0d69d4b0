"""Writes movement.json, movement and index ops by PyTorch: /usr/bin/python3 test/vectors/movement.py

Inputs follow from a seed, as in generate.py, whose helpers serve here. Each case names the function
of nodegrad and its arguments; "#0" stands for input 0, "@0" for the int64 tensor 0 of `extra`.
"""
import json
import os

import torch
import torch.nn.functional as F

from generate import FOLDER, packed, uniform

CASES = []
SEED = [1000]


def case(op, arguments, function, shapes, extra=()):
    leaves, described = [], []
    for shape in shapes:
        SEED[0] += 1
        leaves.append(uniform(SEED[0], shape).requires_grad_())
        described.append({"seed": SEED[0], "shape": list(shape)})
    output = function(*leaves, *extra)
    SEED[0] += 1
    output.backward(uniform(SEED[0], tuple(output.shape)))
    CASES.append(
        {
            "op": op,
            "arguments": arguments,
            "inputs": described,
            "extra": [packed(x) for x in extra],
            "doutSeed": SEED[0],
            "output": packed(output),
            "gradients": [packed(x.grad) for x in leaves],
        }
    )


def movement():
    for axis in (0, 1, -1):
        shapes = [[2, 3, 4] for _ in range(3)]
        for i, shape in enumerate(shapes):
            shape[axis] += i
        case("cat", [["#0", "#1", "#2"], axis], lambda *x, a=axis: torch.cat(x, a), shapes)
    for axis in (0, 2, -1):
        case(
            "stack",
            [["#0", "#1"], axis],
            lambda *x, a=axis: torch.stack(x, a),
            [[3, 4], [3, 4]],
        )
    for pad in ([1, 2], [2, 0, -1, 3], [0, 0, 1, 1, 2, 0]):
        case("pad", ["#0", pad, "constant", 0.5], lambda x, p=pad: F.pad(x, p, value=0.5), [[2, 3, 4]])
    for mode in ("reflect", "replicate", "circular"):
        for shape, pad in (([2, 3, 5], [3, 1]), ([2, 3, 4, 5], [2, 1, 1, 3])):
            case("pad", ["#0", pad, mode], lambda x, p=pad, m=mode: F.pad(x, p, mode=m), [shape])
    case("pad", ["#0", [1, 2, 3, 0, 1, 1], "reflect"],
         lambda x: F.pad(x, [1, 2, 3, 0, 1, 1], mode="reflect"), [[1, 2, 3, 4, 5]])
    case("flip", ["#0", [0, 2]], lambda x: torch.flip(x, [0, 2]), [[2, 3, 4]])
    case("roll", ["#0", [1, -5], [0, 2]], lambda x: torch.roll(x, [1, -5], [0, 2]), [[2, 3, 4]])
    case("roll", ["#0", 7], lambda x: torch.roll(x, 7), [[2, 3, 4]])
    case("tile", ["#0", [2, 1, 3]], lambda x: torch.tile(x, [2, 1, 3]), [[3, 2]])
    case("tile", ["#0", [2]], lambda x: torch.tile(x, [2]), [[3, 2]])
    case("repeatInterleave", ["#0", 3, 1], lambda x: x.repeat_interleave(3, 1), [[2, 3, 2]])
    case("repeatInterleave", ["#0", [2, 0, 1], 1],
         lambda x: x.repeat_interleave(torch.tensor([2, 0, 1]), 1), [[2, 3, 2]])
    case("repeatInterleave", ["#0", 2], lambda x: x.repeat_interleave(2), [[2, 3]])
    for k in (-1, 0, 2):
        case("tril", ["#0", k], lambda x, k=k: x.tril(k), [[2, 3, 4]])
        case("triu", ["#0", k], lambda x, k=k: x.triu(k), [[2, 3, 4]])
        case("diagonal", ["#0", k, 0, 2], lambda x, k=k: x.diagonal(k, 0, 2), [[4, 2, 3]])
        case("diagEmbed", ["#0", k], lambda x, k=k: torch.diag_embed(x, k), [[2, 3]])
        case("diag", ["#0", k], lambda x, k=k: torch.diag(x, k), [[4, 5]])
    case("movedim", ["#0", [0, 1], [2, 0]], lambda x: x.movedim([0, 1], [2, 0]), [[2, 3, 4]])
    case("swapaxes", ["#0", 0, 2], lambda x: x.swapaxes(0, 2), [[2, 3, 4]])


def indices():
    index = torch.tensor([[0, 2, 1, 0], [2, 2, 0, 1]])
    case("gather", ["#0", 0, "@0"], lambda x, i: x.gather(0, i), [[3, 5]], [index])
    case("gather", ["#0", 1, "@0"], lambda x, i: x.gather(1, i), [[2, 3]], [index])
    case("scatterAdd", ["#0", 0, "@0", "#1"], lambda x, s, i: x.scatter_add(0, i, s),
         [[3, 5], [2, 4]], [index])
    case("scatterAdd", ["#0", 1, "@0", "#1"], lambda x, s, i: x.scatter_add(1, i, s),
         [[2, 3], [2, 4]], [index])
    distinct = torch.tensor([[0, 2, 1], [2, 0, 3]])
    case("scatter", ["#0", 1, "@0", "#1"], lambda x, s, i: x.scatter(1, i, s),
         [[2, 4], [2, 3]], [distinct])
    case("scatter", ["#0", 1, "@0", 1.5], lambda x, i: x.scatter(1, i, 1.5), [[2, 4]], [distinct])
    row = torch.tensor([2, 0, 2, 1])
    for axis in (0, 1, -1):
        case("indexSelect", ["#0", "@0", axis], lambda x, i, a=axis: x.index_select(a, i),
             [[3, 4, 3]], [row])
        shape = [3, 4, 3]
        source = list(shape)
        source[axis] = 4
        case("indexAdd", [shape, "@0", "#0", axis],
             lambda s, i, a=axis: torch.zeros(3, 4, 3, dtype=s.dtype).index_add(a, i, s),
             [source], [row])


if __name__ == "__main__":
    movement()
    indices()
    path = os.path.join(FOLDER, "movement.json")
    with open(path, "w") as file:
        json.dump({"torch": torch.__version__, "cases": CASES}, file, separators=(",", ":"))
        file.write("\n")
    print(len(CASES), "cases,", os.path.getsize(path), "bytes")
