"""Writes the reference vectors of this folder with PyTorch: /usr/bin/python3 test/vectors/generate.py

Inputs come from a hash of their position (mixed() below, the same as in test/support/vectors.ts),
so that a test can make them without a file. Values are computed in float64 and kept to 12 digits;
the losses of the networks also in float32, as PyTorch trains.
"""
import json
import math
import os

import numpy
import torch

FOLDER = os.path.dirname(os.path.abspath(__file__))
torch.set_num_threads(1)


def mixed(seed, count):
    """Uniform numbers in [0, 1) of 24 bits: a hash of seed and position."""
    with numpy.errstate(over="ignore"):
        h = numpy.arange(count, dtype=numpy.uint32) + numpy.uint32(seed) * numpy.uint32(0x9E3779B9)
        for _ in range(2):
            h ^= h >> numpy.uint32(16)
            h *= numpy.uint32(0x45D9F3B)
        h ^= h >> numpy.uint32(16)
    return (h >> numpy.uint32(8)).astype(numpy.float64) / 2**24


def uniform(seed, shape, low=-1.0, high=1.0):
    count = int(numpy.prod(shape, dtype=numpy.int64))
    # Rounded to float32, so that both dtypes start from the same numbers.
    values = (low + (high - low) * mixed(seed, count)).astype(numpy.float32)
    return torch.from_numpy(values.astype(numpy.float64)).reshape(shape)


def plain(tensor):
    if tensor.dtype in (torch.int64, torch.bool):
        return tensor.flatten().tolist()
    return [float(f"{v:.12g}") for v in tensor.detach().flatten().tolist()]


def packed(tensor):
    return {"shape": list(tensor.shape), "values": plain(tensor)}


class Cases:
    def __init__(self):
        self.cases = []
        self.seed = 1

    def add(self, op, function, inputs, arguments=(), extra=()):
        """One case: inputs are (shape, low, high); extra tensors have no gradient."""
        leaves = []
        described = []
        for shape, low, high in inputs:
            leaves.append(uniform(self.seed, shape, low, high).requires_grad_())
            described.append({"seed": self.seed, "shape": list(shape), "low": low, "high": high})
            self.seed += 1
        output = function(*leaves, *extra)
        dout = uniform(self.seed, tuple(output.shape))
        seed = self.seed
        self.seed += 1
        output.backward(dout)
        self.cases.append(
            {
                "op": op,
                "arguments": list(arguments),
                "inputs": described,
                "extra": [packed(x) for x in extra],
                "doutSeed": seed,
                "output": packed(output),
                "gradients": [
                    packed(x.grad if x.grad is not None else torch.zeros_like(x)) for x in leaves
                ],
            }
        )


def op_cases():
    c = Cases()
    f = torch.nn.functional
    wide, positive = ((17,), -3.0, 3.0), ((17,), 0.2, 4.0)
    unary = {
        "neg": torch.neg, "abs": torch.abs, "sign": torch.sign, "square": torch.square,
        "relu": torch.relu, "exp": torch.exp, "expm1": torch.expm1, "sigmoid": torch.sigmoid,
        "tanh": torch.tanh, "sin": torch.sin, "cos": torch.cos, "erf": torch.erf,
        "gelu": f.gelu, "silu": f.silu, "softplus": f.softplus, "floor": torch.floor,
        "ceil": torch.ceil, "round": torch.round, "trunc": torch.trunc,
    }
    for name, function in unary.items():
        c.add(name, function, [wide])
    for name in ("log", "log1p", "sqrt", "rsqrt", "reciprocal"):
        c.add(name, getattr(torch, name), [positive])
    binary = {
        "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div,
        "maximum": torch.maximum, "minimum": torch.minimum, "pow": torch.pow,
    }
    for name, function in binary.items():
        low = 0.3 if name in ("div", "pow") else -2.0
        c.add(name, function, [((3, 4), low, 3.0), ((3, 4), low, 3.0)])
        c.add(name, function, [((2, 1, 4), low, 3.0), ((3, 1), low, 3.0)])
    for axes, keepdim in ((None, False), (0, False), (1, True), ((0, 2), False)):
        shape = ((3, 4, 5), -1.0, 1.0)
        given = [0, 1, 2] if axes is None else ([axes] if isinstance(axes, int) else list(axes))
        arguments = (given, keepdim)
        c.add("sum", lambda x: torch.sum(x, given, keepdim), [shape], arguments)
        c.add("mean", lambda x: torch.mean(x, given, keepdim), [shape], arguments)
        c.add("max", lambda x: torch.amax(x, given, keepdim), [shape], arguments)
        c.add("min", lambda x: torch.amin(x, given, keepdim), [shape], arguments)
        if len(given) == 1:
            c.add("prod", lambda x: torch.prod(x, given[0], keepdim), [shape], arguments)
    for axis in (-1, 0, 1):
        shape = ((3, 4, 5), -4.0, 4.0)
        c.add("softmax", lambda x: f.softmax(x, axis), [shape], (axis,))
        c.add("logSoftmax", lambda x: f.log_softmax(x, axis), [shape], (axis,))
    target = torch.tensor([3, 0, 6, 2, 6, 1])
    for reduction in ("mean", "sum", "none"):
        for ignore in (-100, 6):
            c.add(
                "crossEntropy",
                lambda x, t: f.cross_entropy(x, t, reduction=reduction, ignore_index=ignore),
                [((6, 7), -4.0, 4.0)],
                ({"reduction": reduction, "ignoreIndex": ignore},),
                (target,),
            )
    for reduction in ("mean", "sum", "none"):
        c.add(
            "mseLoss",
            lambda x, t: f.mse_loss(x, t, reduction=reduction),
            [((4, 3), -1.0, 1.0), ((4, 3), -1.0, 1.0)],
            (reduction,),
        )
    c.add("linear", f.linear, [((5, 9), -1.0, 1.0), ((6, 9), -1.0, 1.0), ((6,), -1.0, 1.0)])
    c.add("linear", f.linear, [((2, 3, 9), -1.0, 1.0), ((6, 9), -1.0, 1.0)])
    for a, b in (((5, 9), (9, 6)), ((2, 5, 9), (9, 6)), ((9,), (9, 6)), ((2, 1, 3, 4), (5, 4, 2))):
        c.add("matmul", torch.matmul, [(a, -1.0, 1.0), (b, -1.0, 1.0)])
    index = torch.tensor([2, 0, 2, 3, 3, 3])
    select = lambda x, i: torch.index_select(x, 0, i)
    c.add("indexSelect", select, [((4, 3), -1.0, 1.0)], (), (index,))
    return c.cases


def optimizer_cases():
    """Ten steps of two parameters from gradients of a formula; the parameters after each step."""
    sgd = [
        {"lr": 0.1},
        {"lr": 0.1, "momentum": 0.9},
        {"lr": 0.1, "momentum": 0.9, "nesterov": True},
        {"lr": 0.05, "momentum": 0.8, "dampening": 0.3},
        {"lr": 0.1, "weightDecay": 0.05},
        {"lr": 0.1, "momentum": 0.9, "weightDecay": 0.05, "nesterov": True},
        {"lr": 0.1, "momentum": 0.9, "maximize": True},
    ]
    adam = [
        {},
        {"lr": 0.01, "betas": [0.8, 0.95], "eps": 1e-6},
        {"lr": 0.01, "weightDecay": 0.1},
        {"lr": 0.02, "maximize": True},
    ]
    names = {"weightDecay": "weight_decay"}
    classes = {"SGD": torch.optim.SGD, "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW}
    cases = []
    for name, options in (
        [("SGD", o) for o in sgd] + [("Adam", o) for o in adam] + [("AdamW", o) for o in adam]
    ):
        shapes = [(3, 4), (5,)]
        parameters = [uniform(500 + i, s).requires_grad_() for i, s in enumerate(shapes)]
        given = {names.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        optimizer = classes[name](parameters, **given)
        steps = []
        for step in range(10):
            for i, parameter in enumerate(parameters):
                parameter.grad = uniform(600 + 10 * step + i, shapes[i])
            optimizer.step()
            steps.append([plain(p) for p in parameters])
        cases.append({"optimizer": name, "options": options, "shapes": shapes, "steps": steps})
    return cases


def network_case(sizes, batch, steps):
    """An MLP with SGD .001 and momentum .9 on weights and data of a formula: its losses, and how far
    each parameter has moved in the end."""

    def losses(dtype):
        layers = []
        for i, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
            layer = torch.nn.Linear(inputs, outputs, dtype=dtype)
            bound = 1 / math.sqrt(inputs)
            with torch.no_grad():
                layer.weight.copy_(uniform(1000 + 2 * i, (outputs, inputs), -bound, bound))
                layer.bias.copy_(uniform(1001 + 2 * i, (outputs,), -bound, bound))
            layers += [layer, torch.nn.ReLU()]
        model = torch.nn.Sequential(*layers[:-1])
        initial = [p.detach().double().clone() for p in model.parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
        found = []
        for step in range(steps):
            x = uniform(2000 + step, (batch, sizes[0]), 0.0, 1.0).to(dtype)
            # Cubed, so that low classes are frequent and there is something to learn.
            labels = (mixed(3000 + step, batch) ** 3 * sizes[-1]).astype(numpy.int64)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), torch.from_numpy(labels))
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        moved = [
            (p.double() - first).norm().item() for p, first in zip(model.parameters(), initial)
        ]
        return {"losses": found, "moved": moved}

    return {
        "sizes": sizes,
        "batch": batch,
        "float32": losses(torch.float32),
        "float64": losses(torch.float64),
    }


def initialiser_cases():
    """Bound and standard deviation that PyTorch's Kaiming initialisers take for a shape."""
    cases = []
    for shape in ((30, 50), (16, 4, 5, 5)):
        for mode in ("fan_in", "fan_out"):
            kinds = ("relu", 0), ("leaky_relu", 0), ("leaky_relu", 5**0.5), ("linear", 0), ("tanh", 0)
            for nonlinearity, a in kinds:
                fan = torch.nn.init._calculate_correct_fan(torch.empty(shape), mode)
                std = torch.nn.init.calculate_gain(nonlinearity, a) / math.sqrt(fan)
                cases.append(
                    {
                        "shape": shape,
                        "mode": "fanIn" if mode == "fan_in" else "fanOut",
                        "nonlinearity": nonlinearity.replace("_relu", "Relu"),
                        "a": a,
                        "bound": math.sqrt(3) * std,
                        "std": std,
                    }
                )
    return cases


def write(name, content):
    content = {"torch": torch.__version__, "madeBy": "test/vectors/generate.py", **content}
    with open(os.path.join(FOLDER, name), "w") as file:
        json.dump(content, file, separators=(",", ":"))
        file.write("\n")


def main():
    write("ops.json", {"cases": op_cases()})
    write("optimizers.json", {"cases": optimizer_cases()})
    write("initialisers.json", {"cases": initialiser_cases()})
    networks = [network_case([784, 256, 128, 10], 100, 10), network_case([20, 16, 12, 5], 8, 10)]
    write("networks.json", {"cases": networks})


if __name__ == "__main__":
    main()
