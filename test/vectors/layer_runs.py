"""Writes layer_runs.json with PyTorch: /usr/bin/python3 test/vectors/layer_runs.py

Ten losses of a small classifier with each layer that has no such run in another file: the input
goes through a linear layer, the layer, and a linear layer over all it gives; and with each class of
losses in the place of the cross-entropy. Parameters and inputs follow the formula of generate.py,
parameters in the order of their names.
"""
import math

import numpy
import torch
from torch import nn

from generate import mixed, uniform, write

BATCH, CLASSES, WORDS = 6, 3, 11


class Cell(nn.Module):
    """A cell over the positions of [B, T, E]; the last h."""

    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        state = None
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state[0] if isinstance(state, tuple) else state


class Attention(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Decoder(nn.Module):
    """A decoder over x, whose memory is x's positions the other way round."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def forward(self, x):
        return self.decoder(x, x.flip(1))


class Additive(nn.Module):
    """Bahdanau's attention of every position to all: softmax(vᵀ·tanh(W·query + U·key))."""

    def __init__(self, width, hidden):
        super().__init__()
        self.query = nn.Linear(width, hidden)
        self.key = nn.Linear(width, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(self, x):
        mixed_up = self.query(x).unsqueeze(2) + self.key(x).unsqueeze(1)
        return torch.softmax(self.score(torch.tanh(mixed_up)).squeeze(3), -1) @ x


class DotProduct(nn.Module):
    def forward(self, x):
        return torch.softmax(x @ x.transpose(1, 2) / math.sqrt(x.shape[2]), -1) @ x


class Learned(nn.Module):
    def __init__(self, length, width):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(length, width))

    def forward(self, x):
        return x + self.weight[: x.shape[1]]


class Sinusoidal(nn.Module):
    def forward(self, x):
        _, length, width = x.shape
        at = torch.arange(length, dtype=torch.float64)[:, None]
        angle = at / 10000 ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
        table = torch.stack([angle.sin(), angle.cos()], -1).reshape(length, -1)[:, :width]
        return x + table.to(x.dtype)


class Rotary(nn.Module):
    """Columns i and i + E/2 as a complex number, turned by t·10000^(-2i/E)."""

    def forward(self, x):
        _, length, width = x.shape
        at = torch.arange(length, dtype=torch.float64)[:, None]
        angle = at * 10000 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x.chunk(2, -1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


def transformer(kind):
    return kind(6, 2, 10, dropout=0.0, activation="gelu", batch_first=True)


# The layer and the shape of a sample.
LAYERS = {
    "Conv1d": (lambda: nn.Conv1d(3, 4, 3, stride=2, padding=2, dilation=2), (3, 8)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), (4, 5, 6)),
    "ConvTranspose1d": (
        lambda: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (3, 5)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 2, 3, stride=2, padding=1, groups=2), (4, 3, 4)),
    "MaxPool1d": (lambda: nn.MaxPool1d(3, 2), (3, 9)),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), (2, 5, 6)),
    "AvgPool1d": (lambda: nn.AvgPool1d(3, 2), (3, 9)),
    "AvgPool2d": (lambda: nn.AvgPool2d(3, 2, 1), (2, 5, 6)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    "AdaptiveMaxPool2d": (lambda: nn.AdaptiveMaxPool2d((2, 3)), (2, 5, 7)),
    "Upsample": (
        lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), (2, 3, 4)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(WORDS, 5, mode="mean"), (4,)),
    "RNNCell": (lambda: Cell(nn.RNNCell(4, 5)), (4, 4)),
    "GRUCell": (lambda: Cell(nn.GRUCell(4, 5)), (4, 4)),
    "LSTMCell": (lambda: Cell(nn.LSTMCell(4, 5)), (4, 4)),
    "MultiheadAttention": (lambda: Attention(6, 2), (4, 6)),
    "AdditiveAttention": (lambda: Additive(4, 5), (3, 4)),
    "DotProductAttention": (DotProduct, (3, 4)),
    "TransformerEncoderLayer": (lambda: transformer(nn.TransformerEncoderLayer), (3, 6)),
    "TransformerDecoderLayer": (
        lambda: Decoder(transformer(nn.TransformerDecoderLayer)), (3, 6)),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(transformer(nn.TransformerEncoderLayer), 2), (3, 6)),
    "TransformerDecoder": (
        lambda: Decoder(nn.TransformerDecoder(transformer(nn.TransformerDecoderLayer), 2)), (3, 6)),
    "LearnedPositions": (lambda: Learned(5, 4), (3, 4)),
    "SinusoidalPositions": (Sinusoidal, (3, 4)),
    "RotaryPositions": (Rotary, (3, 4)),
    **{kind.__name__: (kind, (5,)) for kind in (
        nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.Softplus, nn.ReLU6, nn.Hardsigmoid,
        nn.Hardswish, nn.SELU, nn.Mish, nn.Softsign, nn.LogSigmoid, nn.Hardtanh, nn.LeakyReLU,
        nn.ELU)},
    "CELU": (lambda: nn.CELU(0.5), (5,)),
    "Softmax": (lambda: nn.Softmax(-1), (5,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (5,)),
    "Dropout": (lambda: nn.Dropout(0.0), (5,)),
    "Dropout1d": (lambda: nn.Dropout1d(0.0), (2, 5)),
    "Dropout2d": (lambda: nn.Dropout2d(0.0), (2, 2, 3)),
    "AlphaDropout": (lambda: nn.AlphaDropout(0.0), (5,)),
    "PReLU": (lambda: nn.PReLU(3), (3, 4)),
    "GLU": (lambda: nn.GLU(1), (4, 3)),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), (6,)),
    "AdaptiveAvgPool1d": (lambda: nn.AdaptiveAvgPool1d(3), (2, 7)),
    "AdaptiveMaxPool1d": (lambda: nn.AdaptiveMaxPool1d(3), (2, 7)),
}

# Of outputs, labels, targets in (0, 1) of the outputs' shape, and their signs.
LOSSES = {
    "CrossEntropyLoss": lambda y, c, t, s: nn.CrossEntropyLoss(label_smoothing=0.1)(y, c),
    "NLLLoss": lambda y, c, t, s: nn.NLLLoss()(y.log_softmax(-1), c),
    "BCELoss": lambda y, c, t, s: nn.BCELoss()(y.sigmoid(), t),
    "BCEWithLogitsLoss": lambda y, c, t, s: nn.BCEWithLogitsLoss()(y, t),
    "KLDivLoss": lambda y, c, t, s: nn.KLDivLoss(reduction="batchmean")(
        y.log_softmax(-1), t.softmax(-1)),
    "MultiMarginLoss": lambda y, c, t, s: nn.MultiMarginLoss()(y, c),
    "CosineSimilarity": lambda y, c, t, s: 1 - nn.CosineSimilarity()(y, t).mean(),
    "CosineEmbeddingLoss": lambda y, c, t, s: nn.CosineEmbeddingLoss()(y, t, s[:, 0]),
    "HingeEmbeddingLoss": lambda y, c, t, s: nn.HingeEmbeddingLoss()(y, s),
    "HingeLoss": lambda y, c, t, s: torch.relu(1 - s * y).mean(),
    "MarginRankingLoss": lambda y, c, t, s: nn.MarginRankingLoss(0.2)(y[:, 0], y[:, 1], s[:, 0]),
    "TripletMarginLoss": lambda y, c, t, s: nn.TripletMarginLoss(margin=5)(y, t, s),
    "MSELoss": lambda y, c, t, s: nn.MSELoss()(y, t),
    "L1Loss": lambda y, c, t, s: nn.L1Loss()(y, t),
    "SmoothL1Loss": lambda y, c, t, s: nn.SmoothL1Loss()(y, t),
    "HuberLoss": lambda y, c, t, s: nn.HuberLoss()(y, t),
    "PoissonNLLLoss": lambda y, c, t, s: nn.PoissonNLLLoss()(y, t),
}


def losses(name, dtype, loss_of=None):
    make, shape = LAYERS.get(name, (nn.Identity, (5,)))
    words = name == "EmbeddingBag"
    front = nn.Identity() if words else nn.Linear(shape[-1], shape[-1])
    middle = nn.Sequential(front, make()).to(dtype)

    def input_of(step):
        if not words:
            return uniform(2000 + step, (BATCH, *shape)).to(dtype)
        found = mixed(2000 + step, BATCH * shape[0]) * WORDS
        return torch.from_numpy(found.astype(numpy.int64)).reshape(BATCH, shape[0])

    with torch.no_grad():
        features = middle(input_of(0)).flatten(1).shape[1]
    head = nn.Linear(features, CLASSES).to(dtype)
    model = nn.ModuleDict({"front": front, "layer": middle[1], "head": head})
    with torch.no_grad():
        for i, (key, parameter) in enumerate(sorted(model.named_parameters())):
            values = uniform(1000 + i, tuple(parameter.shape), -0.5, 0.5)
            parameter.copy_(values + (1 if "norm" in key and key.endswith("weight") else 0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = []
    for step in range(10):
        labels = torch.from_numpy((mixed(3000 + step, BATCH) * CLASSES).astype(numpy.int64))
        optimizer.zero_grad()
        logits = head(middle(input_of(step)).flatten(1))
        if loss_of is None:
            loss = nn.functional.cross_entropy(logits, labels)
        else:
            targets = uniform(4000 + step, (BATCH, CLASSES), 0.01, 0.99).to(dtype)
            loss = loss_of(logits, labels, targets, (targets - 0.5).sign())
        loss.backward()
        optimizer.step()
        found.append(float(f"{loss.item():.12g}"))
    return sorted(key for key, _ in model.named_parameters()), found


def main():
    cases = []
    for name, (_, shape) in LAYERS.items():
        keys, exact = losses(name, torch.float64)
        cases.append({"layer": name, "shape": shape, "parameters": keys,
                      "float32": losses(name, torch.float32)[1], "float64": exact})
    for name, loss_of in LOSSES.items():
        keys, exact = losses("Identity", torch.float64, loss_of)
        cases.append({"layer": "Identity", "loss": name, "shape": (5,), "parameters": keys,
                      "float32": losses("Identity", torch.float32, loss_of)[1], "float64": exact})
    write("layer_runs.json", {"madeBy": "test/vectors/layer_runs.py", "cases": cases})


if __name__ == "__main__":
    main()
