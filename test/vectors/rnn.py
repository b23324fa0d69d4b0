"""Writes rnn.json with PyTorch: /usr/bin/python3 test/vectors/rnn.py

Recurrent layers with their gradients, in float64, and ten losses of a small classifier of sequences.
Inputs follow the formula of generate.py.
"""
import json
import os

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from generate import FOLDER, mixed, packed, uniform

INPUT, HIDDEN, BATCH, STEPS = 3, 4, 3, 4
KINDS = {
    "LSTM": (torch.nn.LSTM, {}),
    "GRU": (torch.nn.GRU, {}),
    "RNN tanh": (torch.nn.RNN, {"nonlinearity": "tanh"}),
    "RNN relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}
OPTIONS = [
    {"numLayers": 1, "bidirectional": False, "bias": True, "batchFirst": False},
    {"numLayers": 1, "bidirectional": False, "bias": False, "batchFirst": True},
    {"numLayers": 2, "bidirectional": True, "bias": True, "batchFirst": True},
]
LENGTHS = [2, 4, 1]
# Options, lengths and whether there are initial states.
CASES = [
    (OPTIONS[0], None, False),
    (OPTIONS[0], LENGTHS, True),
    (OPTIONS[1], None, True),
    (OPTIONS[2], None, True),
    (OPTIONS[2], LENGTHS, True),
]


def fill(module, seed, bound=0.6):
    """Parameters in the order of their names in PyTorch."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(uniform(seed + i, tuple(p.shape), -bound, bound))


def case(kind, options, lengths, with_state):
    make, more = KINDS[kind]
    module = make(
        INPUT,
        HIDDEN,
        num_layers=options["numLayers"],
        bidirectional=options["bidirectional"],
        bias=options["bias"],
        batch_first=options["batchFirst"],
        dtype=torch.float64,
        **more,
    )
    fill(module, 100)
    shape = (BATCH, STEPS, INPUT) if options["batchFirst"] else (STEPS, BATCH, INPUT)
    x = uniform(1, shape).requires_grad_()
    count = options["numLayers"] * (2 if options["bidirectional"] else 1)
    states = [uniform(2 + i, (count, BATCH, HIDDEN)).requires_grad_() for i in range(2)]
    given = states if kind == "LSTM" else states[:1]
    state = (tuple(given) if kind == "LSTM" else given[0]) if with_state else None
    first = options["batchFirst"]
    if lengths is None:
        output, last = module(x, state)
    else:
        sequence = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
        output, last = module(sequence, state)
        output, _ = pad_packed_sequence(output, batch_first=first)
    results = [output, *(last if kind == "LSTM" else [last])]
    sum((r * uniform(10 + i, tuple(r.shape))).sum() for i, r in enumerate(results)).backward()
    leaves = {"x": x, **dict(module.named_parameters())}
    if with_state:
        leaves.update(zip(("h0", "c0"), given))
    return {
        "kind": kind,
        "options": options,
        "lengths": lengths,
        "withState": with_state,
        "results": [packed(r) for r in results],
        "gradients": {name: packed(leaf.grad) for name, leaf in leaves.items()},
    }


def losses(kind, dtype):
    """A classifier of the last layer's final h, by SGD with learning rate .5."""
    make, more = KINDS[kind]
    layer = make(INPUT, HIDDEN, num_layers=2, batch_first=True, dtype=dtype, **more)
    head = torch.nn.Linear(HIDDEN, 2, dtype=dtype)
    fill(layer, 200)
    fill(head, 300)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.5)
    found = []
    for step in range(10):
        x = uniform(400 + step, (BATCH, STEPS, INPUT)).to(dtype)
        labels = torch.from_numpy((mixed(500 + step, BATCH) * 2).astype("int64"))
        optimizer.zero_grad()
        _, last = layer(x)
        h = last[0] if kind == "LSTM" else last
        loss = torch.nn.functional.cross_entropy(head(h[-1]), labels)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def cell(kind):
    make, more = {
        "LSTM": (torch.nn.LSTMCell, {}),
        "GRU": (torch.nn.GRUCell, {}),
        "RNN tanh": (torch.nn.RNNCell, {"nonlinearity": "tanh"}),
        "RNN relu": (torch.nn.RNNCell, {"nonlinearity": "relu"}),
    }[kind]
    module = make(INPUT, HIDDEN, dtype=torch.float64, **more)
    fill(module, 600)
    x = uniform(701, (BATCH, INPUT))
    states = [uniform(702 + i, (BATCH, HIDDEN)) for i in range(2)]
    result = module(x, tuple(states) if kind == "LSTM" else states[0])
    return [packed(r) for r in (result if kind == "LSTM" else [result])]


def main():
    layers = [case(kind, *how) for kind in KINDS for how in CASES]
    runs = [
        {"kind": kind, "float32": losses(kind, torch.float32), "float64": losses(kind, torch.float64)}
        for kind in KINDS
    ]
    cells = [{"kind": kind, "results": cell(kind)} for kind in KINDS]
    document = {
        "torch": torch.__version__,
        "cases": [{"layers": layers, "runs": runs, "cells": cells}],
    }
    with open(os.path.join(FOLDER, "rnn.json"), "w") as file:
        json.dump(document, file, separators=(",", ":"))
        file.write("\n")


main()
