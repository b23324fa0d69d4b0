"""Writes layers.json, layers and functions with several inputs by PyTorch: /usr/bin/python3 test/vectors/layers.py

Inputs follow from a seed, as in generate.py, whose helpers serve here. A case names what it tests
(`kind`) and its options; layers.test.ts knows how to call it.
"""
import json
import os

import torch
import torch.autograd.functional as AF
import torch.nn.functional as F

from generate import FOLDER, packed, uniform

CASES = []
SEED = [5000]


def draw(shape):
    SEED[0] += 1
    return uniform(SEED[0], shape), {"seed": SEED[0], "shape": list(shape)}


def case(kind, options, shapes, function, extra=()):
    """`function` of leaves returns the outputs, of which the first is differentiated."""
    leaves, described = [], []
    for shape in shapes:
        x, described_x = draw(shape)
        leaves.append(x.requires_grad_())
        described.append(described_x)
    outputs = function(*leaves)
    SEED[0] += 1
    outputs[0].backward(uniform(SEED[0], tuple(outputs[0].shape)))
    CASES.append(
        {
            "kind": kind,
            "options": options,
            "inputs": described,
            "extra": [packed(x) for x in extra],
            "doutSeed": SEED[0],
            "outputs": [packed(x) for x in outputs],
            "gradients": [packed(x.grad) for x in leaves],
        }
    )


def extremes():
    for shape, axis in (([9], 0), ([3, 5], 1), ([3, 5], 0), ([2, 4, 3], -2)):
        for name in ("cummax", "cummin"):
            case(name, {"axis": axis}, [shape], lambda x, n=name, a=axis: getattr(torch, n)(x, a))


def along():
    index = torch.tensor([[0, 2], [1, 1], [2, 0]])
    case("takeAlongDim", {"axis": 1}, [[3, 4]], lambda x: [torch.take_along_dim(x, index, 1)], [index])
    case("takeAlongDim", {"axis": 1}, [[1, 4]], lambda x: [torch.take_along_dim(x, index, 1)], [index])
    row = torch.tensor([[0, 2, 1, 1]])
    case("takeAlongDim", {"axis": 0}, [[3, 4]], lambda x: [torch.take_along_dim(x, row, 0)], [row])
    flat = torch.tensor([[7, 0], [3, 11]])
    case("takeAlongDim", {}, [[3, 4]], lambda x: [torch.take_along_dim(x, flat)], [flat])
    case("repeat", {"repeats": [2, 1, 3]}, [[3, 2]], lambda x: [x.repeat(2, 1, 3)])


def bags():
    index = torch.tensor([4, 1, 2, 2, 0, 4, 3, 1])
    offsets = torch.tensor([0, 3, 3, 5])
    rows = torch.tensor([[4, 1, 2], [2, 0, 4]])
    for mode in ("sum", "mean", "max"):
        for padding in (None, 2):
            options = {"mode": mode, "paddingIdx": padding}
            case("embeddingBag", options, [[5, 3]],
                 lambda w, m=mode, p=padding: [F.embedding_bag(index, w, offsets, mode=m, padding_idx=p)],
                 [index, offsets])
            case("embeddingBag", options, [[5, 3]],
                 lambda w, m=mode, p=padding: [F.embedding_bag(rows, w, mode=m, padding_idx=p)],
                 [rows])
    ends = torch.tensor([0, 3, 3, 8])
    case("embeddingBag", {"mode": "mean", "includeLastOffset": True}, [[5, 3]],
         lambda w: [F.embedding_bag(index, w, ends, mode="mean", include_last_offset=True)],
         [index, ends])
    case("embeddingBag", {"mode": "sum"}, [[5, 3], [8]],
         lambda w, s: [F.embedding_bag(index, w, offsets, mode="sum", per_sample_weights=s)],
         [index, offsets])


def norms():
    case("layerNorm", {}, [[4, 6], [6]], lambda x, b: [F.layer_norm(x, [6], None, b)])
    # PyTorch 1.13 cannot differentiate these with a bias alone; the sum is their definition.
    case("groupNorm", {"groups": 2}, [[2, 4, 3], [4]],
         lambda x, b: [F.group_norm(x, 2) + b.reshape(4, 1)])
    case("batchNorm", {}, [[3, 4, 2, 2], [4]],
         lambda x, b: [F.batch_norm(x, None, None, training=True) + b.reshape(4, 1, 1)])


def attention():
    """Multi-head attention by its definition, with summands for keys (PyTorch 1.13 has bool alone here)."""
    batch, queries, keys, width, heads = 2, 3, 4, 6, 2

    def attend(x, y, padding, mask, weight, bias, out, end):
        q, k, v = (
            F.linear(t, weight[i * width:(i + 1) * width], bias[i * width:(i + 1) * width])
            .reshape(batch, -1, heads, width // heads).transpose(1, 2)
            for i, t in enumerate((x, y, y))
        )
        scores = q @ k.transpose(-1, -2) / (width // heads) ** 0.5
        weights = (scores + padding[:, None, None] + mask).softmax(-1)
        joined = (weights @ v).transpose(1, 2).reshape(batch, queries, width)
        return [F.linear(joined, out, end), weights.mean(1)]

    case("attention", {"embedDim": width, "numHeads": heads},
         [[batch, queries, width], [batch, keys, width], [batch, keys], [queries, keys],
          [3 * width, width], [3 * width], [width, width], [width]], attend)


def functional():
    """f(x, y) = (x·y, exp(x) summed) and g(x, y) = Σ x²·y³: their derivatives."""
    x, dx = draw([3])
    y, dy = draw([3])
    v, dv = draw([2])
    u, du = draw([3])
    w, dw = draw([3])
    f = lambda a, b: torch.stack([(a * b).sum(), (a.exp() * b).sum()])
    g = lambda a, b: (a * a * b * b * b).sum()
    matrices = AF.jacobian(f, (x, y))
    second = AF.hessian(g, (x, y))
    _, products = AF.vjp(f, (x, y), v)
    _, along = AF.jvp(f, (x, y), (u, w))
    return {
        "inputs": [dx, dy],
        "v": dv,
        "directions": [du, dw],
        "jacobian": [packed(m) for m in matrices],
        "hessian": [[packed(m) for m in row] for row in second],
        "vjp": [packed(m) for m in products],
        "jvp": packed(along),
    }


if __name__ == "__main__":
    extremes()
    along()
    bags()
    norms()
    attention()
    found = functional()
    path = os.path.join(FOLDER, "layers.json")
    with open(path, "w") as file:
        json.dump({"torch": torch.__version__, "cases": CASES, "functional": found}, file,
                  separators=(",", ":"))
        file.write("\n")
    print(len(CASES), "cases,", os.path.getsize(path), "bytes")
