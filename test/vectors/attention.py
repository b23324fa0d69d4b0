"""Writes attention.json and transformers.json: /usr/bin/python3 test/vectors/attention.py"""
import json
import math
import os

import torch

from generate import FOLDER, packed, uniform


def attention(q, k, v, mask, added):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = scores + mask if added else scores.masked_fill(~mask, -math.inf)
    return torch.softmax(scores, dim=-1) @ v


def functions():
    cases = []
    sizes = [(2, 2, 4, 6, 3), (1, 3, 5, 5, 8), (2, 1, 7, 7, 4), (1, 2, 3, 9, 5)]
    for i, (batch, heads, queries, keys, width) in enumerate(sizes):
        shapes = [[batch, heads, n, width] for n in (queries, keys, keys)]
        leaves = [uniform(100 * i + n, s, -2, 2).requires_grad_() for n, s in enumerate(shapes)]
        masked = ["none", "causal", "bool", "added"][i]
        mask = None
        if masked == "causal":
            mask = torch.ones(queries, keys, dtype=torch.bool).tril()
        elif masked == "bool":
            mask = uniform(100 * i + 9, [queries, keys]) < 0.5
            mask[:, 0] = True
        elif masked == "added":
            mask = uniform(100 * i + 9, [heads, queries, keys], -3, 3)
        out = attention(*leaves, mask, masked == "added")
        out.backward(uniform(100 * i + 3, list(out.shape)))
        cases.append(
            {
                "shapes": shapes,
                "masked": masked,
                "mask": packed(mask.double()) if masked in ("bool", "added") else None,
                "output": packed(out),
                "gradients": [packed(leaf.grad) for leaf in leaves],
            }
        )
    return cases


def fill(module, seed, scale):
    """Gives every parameter numbers that a test can make: uniform in ±scale, norms' weights at 1."""
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            parameter.copy_(uniform(seed, list(parameter.shape), -scale, scale))
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
        seed += 1


def outcome(module, inputs, outputs, seed):
    dout = uniform(seed, list(outputs[0].shape))
    outputs[0].backward(dout)
    return {
        "outputs": [packed(x) for x in outputs],
        "inputGradients": [packed(x.grad) for x in inputs],
        "gradients": {name: packed(p.grad) for name, p in module.named_parameters()},
    }


def multihead_cases():
    cases = []
    for i, (same, batch_first, masked) in enumerate(
        [(True, True, "none"), (True, False, "causal"), (False, True, "both"), (False, False, "none")]
    ):
        width, heads, batch, queries, keys = 8, 2, 2, 4, 4 if same else 5
        dims = {} if same or masked == "both" else {"kdim": 6, "vdim": 3}
        module = torch.nn.MultiheadAttention(width, heads, batch_first=batch_first, **dims).double()
        seed = 1000 * (i + 1)
        fill(module, seed, 0.5)
        shape = lambda n, w: [batch, n, w] if batch_first else [n, batch, w]
        shapes = [shape(queries, width)]
        if not same:
            shapes += [shape(keys, dims.get("kdim", width)), shape(keys, dims.get("vdim", width))]
        inputs = [uniform(seed + 100 + n, s).requires_grad_() for n, s in enumerate(shapes)]
        query, key, value = inputs if not same else inputs * 3
        attn_mask = padding = None
        if masked == "causal":
            attn_mask = torch.ones(queries, keys, dtype=torch.bool).triu(1)
        elif masked == "both":
            attn_mask = uniform(seed + 200, [batch * heads, queries, keys])
            padding = torch.tensor([[False] * keys, [False] * (keys - 2) + [True] * 2])
        output, weights = module(
            query, key, value, key_padding_mask=padding, attn_mask=attn_mask, need_weights=True
        )
        cases.append(
            {
                "kind": "multihead",
                "options": {"batchFirst": batch_first, **dims},
                "shapes": shapes,
                "masked": masked,
                "seed": seed,
                **outcome(module, inputs, [output, weights], seed + 300),
            }
        )
    return cases


def layer_cases():
    cases = []
    for i, (norm_first, activation, kind) in enumerate(
        [(False, "relu", "encoder"), (True, "gelu", "encoder"), (False, "gelu", "decoder"),
         (True, "relu", "decoder")]
    ):
        seed = 10000 + 1000 * i
        options = {"dim_feedforward": 12, "dropout": 0.0, "activation": activation}
        options.update({"batch_first": True, "norm_first": norm_first})
        make = torch.nn.TransformerEncoderLayer if kind == "encoder" else torch.nn.TransformerDecoderLayer
        stack = torch.nn.TransformerEncoder if kind == "encoder" else torch.nn.TransformerDecoder
        module = stack(make(8, 2, **options), 1, norm=torch.nn.LayerNorm(8)).double()
        fill(module, seed, 0.5)
        shapes = [[2, 4, 8]] if kind == "encoder" else [[2, 4, 8], [2, 3, 8]]
        inputs = [uniform(seed + 100 + n, s).requires_grad_() for n, s in enumerate(shapes)]
        causal = torch.ones(4, 4, dtype=torch.bool).triu(1)
        if kind == "encoder":
            padding = torch.tensor([[False] * 4, [False] * 3 + [True]])
            output = module(inputs[0], src_key_padding_mask=padding)
        else:
            padding = torch.tensor([[False] * 3, [False] * 2 + [True]])
            output = module(*inputs, tgt_mask=causal, memory_key_padding_mask=padding)
        cases.append(
            {
                "kind": kind,
                "options": {"activation": activation, "normFirst": norm_first},
                "shapes": shapes,
                "seed": seed,
                **outcome(module, inputs, [output], seed + 300),
            }
        )
    return cases


def training_case():
    """Ten losses of a small encoder that classifies the mean of its positions."""
    width, classes, batch, length = 16, 5, 4, 6
    layer = torch.nn.TransformerEncoderLayer(
        width, 4, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    encoder = torch.nn.TransformerEncoder(layer, 2)
    head = torch.nn.Linear(width, classes)
    model = torch.nn.ModuleDict({"encoder": encoder, "head": head}).double()
    fill(model, 20000, 0.25)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for step in range(10):
        x = uniform(30000 + step % 3, [batch, length, width])
        y = torch.arange(batch) % classes
        mask = torch.ones(length, length, dtype=torch.bool).triu(1)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(encoder(x, mask).mean(1)), y)
        loss.backward()
        optimizer.step()
        losses.append(float(f"{loss.item():.12g}"))
    return {"kind": "training", "losses": losses}


def write(name, cases):
    with open(os.path.join(FOLDER, f"{name}.json"), "w") as file:
        json.dump({"torch": torch.__version__, "cases": cases}, file, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    write("attention", functions())
    write("transformers", multihead_cases() + layer_cases() + [training_case()])
