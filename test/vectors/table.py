"""What comparison.py and view.py share: a table of calls with what PyTorch makes of them.

A call has the name of nodegrad's function and its arguments. Tensors among these are described:
`leaf` and `drawn` are of the floating dtype that a test asks for and have gradients, `given` is a
constant, of that dtype where none is named. Special numbers and integers beyond 2^53 are strings.
"""
import json
import math
import os

import torch

from generate import FOLDER, uniform


class Described:
    """An argument that is a tensor, in the words of the table."""

    def __init__(self, tensor, words, differentiable, follows):
        self.tensor, self.words = tensor, words
        self.differentiable, self.follows = differentiable, follows


def written(x, exact):
    if isinstance(x, bool):
        return x
    if isinstance(x, int):
        return x if abs(x) < 2**53 else str(x)
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return "inf" if x > 0 else "-inf"
    return x if exact else float(f"{x:.12g}")


def packed(x, dtype, exact):
    values = [written(v, exact) for v in x.detach().flatten().tolist()]
    return {"dtype": dtype, "shape": list(x.shape), "values": values}


def name_of(dtype):
    return str(dtype).split(".")[1]


class Table:
    def __init__(self, seed):
        self.cases, self.seed = [], seed

    def next_seed(self):
        self.seed += 1
        return self.seed

    def drawn(self, *shape, low=-1, high=1):
        seed = self.next_seed()
        words = {"seed": seed, "shape": list(shape), "low": low, "high": high}
        return Described(uniform(seed, shape, low, high), words, True, True)

    def leaf(self, values):
        x = torch.tensor(values, dtype=torch.float64)
        return Described(x, packed(x, "float", True), True, True)

    def given(self, values, dtype=None):
        x = torch.tensor(values, dtype=dtype or torch.float64)
        words = packed(x, name_of(dtype) if dtype else "float", True)
        return Described(x, words, False, dtype is None)

    def add(self, op, arguments, function, within=0):
        """`function` gets the tensors among the arguments, in order. Results without a tensor of the
        test's dtype among their inputs are compared as they are, up to `within`."""
        leaves, tensors, follows = [], [], False

        def visit(value):
            nonlocal follows
            if isinstance(value, Described):
                follows = follows or value.follows
                x = value.tensor.clone()
                tensors.append(x)
                if not value.differentiable:
                    return value.words
                leaves.append(x.requires_grad_())
                return {**value.words, "leaf": True}
            return [visit(v) for v in value] if isinstance(value, list) else value

        words = visit(list(arguments))
        result = function(*tensors)
        case = {"op": op, "arguments": words}
        if isinstance(result, bool):
            self.cases.append({**case, "answer": result})
            return
        results = list(result) if isinstance(result, (tuple, list)) else [result]
        case["outputs"] = [
            packed(y, "float", False) if follows and y.dtype == torch.float64
            else packed(y, name_of(y.dtype), True)
            for y in results
        ]
        if within:
            case["within"] = within
        floating = [y for y in results if y.requires_grad]
        if floating:
            case["doutSeed"] = self.seed + 1
            douts = [uniform(self.next_seed(), tuple(y.shape)).to(y.dtype) for y in floating]
            found = torch.autograd.grad(floating, leaves, douts, allow_unused=True)
            case["gradients"] = [None if g is None else packed(g, "float", False) for g in found]
        self.cases.append(case)

    def write(self, name):
        path = os.path.join(FOLDER, f"{name}.json")
        with open(path, "w") as file:
            json.dump({"torch": torch.__version__, "cases": self.cases}, file, separators=(",", ":"))
            file.write("\n")
        print(len(self.cases), "cases,", os.path.getsize(path), "bytes")
