"""Writes bert.json: /usr/bin/python3 test/vectors/bert.py

A small BERT without dropout: its outputs, with segments and padding, and ten losses of training.
"""
import torch

from attention import write
from generate import packed, uniform

TOKENS, WIDTH, HEADS, BETWEEN, LAYERS, LENGTHS, TYPES, CLASSES = 11, 8, 2, 12, 2, 6, 2, 3
BATCH, LENGTH = 3, 5


class Embeddings(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(TOKENS, WIDTH, padding_idx=0)
        self.positions = torch.nn.Embedding(LENGTHS, WIDTH)
        self.types = torch.nn.Embedding(TYPES, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH, eps=1e-12)

    def forward(self, tokens, types):
        places = self.positions(torch.arange(tokens.shape[1]))
        return self.norm(self.words(tokens) + places + self.types(types))


class Bert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = Embeddings()
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, BETWEEN, 0.0, "gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(layer, LAYERS)
        self.pooler = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens, types, padding):
        hidden = self.encoder(self.embeddings(tokens, types), src_key_padding_mask=padding)
        return hidden, torch.tanh(self.pooler(hidden[:, 0]))


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = Bert()
        self.classifier = torch.nn.Linear(WIDTH, CLASSES)

    def forward(self, *inputs):
        return self.classifier(self.bert(*inputs)[1])


def main():
    model = Classifier().double()
    with torch.no_grad():
        for i, (name, parameter) in enumerate(sorted(model.named_parameters())):
            values = uniform(40000 + i, list(parameter.shape), -0.3, 0.3)
            parameter.copy_(values + (1 if "norm" in name and "weight" in name else 0))
    tokens = torch.arange(BATCH * LENGTH).mul(7).remainder(TOKENS).reshape(BATCH, LENGTH)
    types = (torch.arange(LENGTH) >= 2).long().expand(BATCH, LENGTH)
    padding = torch.arange(LENGTH) >= torch.tensor([[5], [4], [3]])
    hidden, pooled = model.bert(tokens, types, padding)
    case = {
        "names": sorted(name for name, _ in model.named_parameters()),
        "hidden": packed(hidden * ~padding[:, :, None]),
        "pooled": packed(pooled),
        "losses": [],
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        logits = model(tokens, types, padding)
        loss = torch.nn.functional.cross_entropy(logits, torch.arange(BATCH) % CLASSES)
        loss.backward()
        optimizer.step()
        case["losses"].append(float(f"{loss.item():.12g}"))
    write("bert", [case])


main()
