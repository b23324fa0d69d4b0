"""Writes conv, pool, cnn and upsample.json with PyTorch: /usr/bin/python3 test/vectors/conv.py"""
import math

import torch
from generate import Cases, packed, uniform, write

f = torch.nn.functional


def snake(name):
    return "".join("_" + c.lower() if c.isupper() else c for c in name)


def values(shape, scale=1.0):
    return (shape, -scale, scale)


def options(given):
    named = {snake(k): tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return named


def conv_cases():
    c = Cases()

    def add(op, function, x, w, bias, **given):
        call = lambda *inputs: function(*inputs[:2], inputs[2] if bias else None, **options(given))
        inputs = [values(x), values(w)] + ([values((bias,))] if bias else [])
        c.add(op, call, inputs, ([] if bias else [None]) + [given])

    two, one = f.conv2d, f.conv1d
    add("conv2d", two, (2, 3, 5, 6), (4, 3, 3, 3), 4)
    add("conv2d", two, (1, 3, 6, 5), (4, 3, 3, 3), 4, padding="same")
    add("conv2d", two, (1, 2, 5, 7), (3, 2, 2, 4), None, padding="same", dilation=[2, 1])
    add("conv2d", two, (2, 3, 7, 7), (4, 3, 3, 3), 4, stride=2, padding=1)
    add("conv2d", two, (1, 4, 9, 8), (6, 2, 3, 2), 6, stride=[3, 2], padding=[2, 0],
        dilation=[2, 3], groups=2)
    add("conv2d", two, (2, 3, 4, 4), (6, 1, 3, 3), 6, padding=1, groups=3)
    add("conv2d", two, (2, 5, 3, 3), (7, 5, 1, 1), None)
    add("conv2d", two, (1, 1, 11, 4), (2, 1, 5, 1), 2, stride=[4, 1], padding=[4, 0])
    add("conv2d", two, (1, 2, 3, 40), (3, 2, 3, 3), None)
    add("conv1d", one, (2, 3, 11), (4, 3, 3), 4)
    add("conv1d", one, (2, 4, 12), (6, 2, 4), 6, stride=3, padding=2, dilation=2, groups=2)
    add("conv1d", one, (3, 2, 9), (3, 2, 4), None, padding="same")
    two, one = f.conv_transpose2d, f.conv_transpose1d
    add("convTranspose2d", two, (2, 3, 4, 3), (3, 4, 3, 3), 4)
    add("convTranspose2d", two, (1, 4, 4, 3), (4, 2, 3, 2), 4, stride=[2, 3], padding=1,
        outputPadding=[1, 2], groups=2)
    add("convTranspose2d", two, (1, 2, 3, 4), (2, 3, 2, 3), None, stride=2, dilation=[3, 1],
        outputPadding=[2, 0])
    add("convTranspose1d", one, (2, 3, 7), (3, 2, 4), 2, stride=3, padding=1, outputPadding=2)
    return c.cases


def pool_cases():
    c = Cases()

    def add(op, function, x, size, **given):
        c.add(op, lambda x: function(x, size, **options(given)), [values(x)], (size, given))

    add("maxPool2d", f.max_pool2d, (2, 3, 6, 8), 2)
    add("maxPool2d", f.max_pool2d, (2, 3, 7, 9), [3, 2], stride=[2, 3], padding=1)
    add("maxPool2d", f.max_pool2d, (1, 2, 9, 9), 3, stride=1, dilation=[1, 3])
    add("maxPool2d", f.max_pool2d, (1, 2, 8, 7), 3, stride=2, ceilMode=True)
    add("maxPool2d", f.max_pool2d, (1, 2, 7, 6), 2, stride=3, padding=1, ceilMode=True)
    add("maxPool2d", f.max_pool2d, (1, 1, 4, 37), [1, 2])
    add("maxPool1d", f.max_pool1d, (2, 3, 11), 3, stride=2, padding=1, ceilMode=True)
    add("avgPool2d", f.avg_pool2d, (2, 3, 6, 8), 2)
    add("avgPool2d", f.avg_pool2d, (2, 3, 7, 9), [3, 2], stride=[2, 3], padding=1)
    add("avgPool2d", f.avg_pool2d, (2, 3, 7, 9), 3, stride=2, padding=1, countIncludePad=False)
    add("avgPool2d", f.avg_pool2d, (1, 2, 8, 8), 3, stride=2, padding=1, ceilMode=True)
    add("avgPool2d", f.avg_pool2d, (1, 2, 7, 6), 2, stride=3, padding=1, ceilMode=True,
        countIncludePad=False)
    add("avgPool1d", f.avg_pool1d, (2, 3, 11), 4, stride=3, padding=2)
    for size in (1, [3, 4], [None, 2], [9, 5]):
        for op, function in (
            ("adaptiveAvgPool2d", f.adaptive_avg_pool2d),
            ("adaptiveMaxPool2d", f.adaptive_max_pool2d),
        ):
            c.add(op, lambda x: function(x, size), [values((2, 2, 7, 6))], (size,))
    return c.cases


def cnn_case(steps=10):
    """The losses of a small CNN with SGD .01 and momentum .9: two blocks of a 3 x 3 convolution,
    ReLU and 2 x 2 maximum, then a hidden layer of 10 and 3 classes."""

    def losses(dtype):
        layers, channels = [], [3, 4, 6]
        for i, (inputs, outputs) in enumerate(zip(channels, channels[1:])):
            layers += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        layers += [torch.nn.Flatten(), torch.nn.Linear(24, 10), torch.nn.ReLU()]
        layers += [torch.nn.Linear(10, 3)]
        model = torch.nn.Sequential(*layers).to(dtype)
        for i, parameter in enumerate(model.parameters()):
            bound = 1 / math.sqrt([27, 27, 36, 36, 24, 24, 10, 10][i])
            with torch.no_grad():
                parameter.copy_(uniform(1000 + i, tuple(parameter.shape), -bound, bound))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        found = []
        for step in range(steps):
            x = uniform(2000 + step, (5, 3, 16, 14), 0.0, 1.0).to(dtype)
            y = torch.tensor([step % 3, 1, 2, 0, (step + 1) % 3])
            optimizer.zero_grad()
            loss = f.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            found.append(float(loss.detach()))
        return found

    return {"float32": losses(torch.float32), "float64": losses(torch.float64)}


def upsample_cases():
    cases = []
    for given in (
        {"scaleFactor": 2},
        {"scaleFactor": [3, 1]},
        {"size": [7, 4]},
        {"scaleFactor": 1.7},
        {"size": [9, 5], "mode": "bilinear"},
        {"size": [2, 3], "mode": "bilinear"},
        {"scaleFactor": 1.7, "mode": "bilinear"},
        {"size": [1, 8], "mode": "bilinear", "alignCorners": True},
    ):
        shape = (2, 3, 5, 6)
        x = uniform(1, shape).requires_grad_()
        y = f.interpolate(x, **options(given))
        y.backward(uniform(2, tuple(y.shape)))
        found = {"output": packed(y), "gradient": packed(x.grad)}
        cases.append({"options": given, "shape": shape, **found})
    return cases


if __name__ == "__main__":
    made = {"madeBy": "test/vectors/conv.py"}
    write("conv.json", {**made, "cases": conv_cases()})
    write("pool.json", {**made, "cases": pool_cases()})
    write("upsample.json", {**made, "cases": upsample_cases()})
    write("cnn.json", {**made, "cases": [cnn_case()]})
