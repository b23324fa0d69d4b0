"""The transformer's step by PyTorch: `gpt_torch.py SIZES... THREADS`; sizes as in gpt.ts."""

import sys

import rival
import torch

LAYERS, HEADS, WIDTH, LENGTH, BATCH, VOCABULARY = map(int, sys.argv[1:7])
# PyTorch 2 takes a fused kernel where it is told that the mask is causal.
CAUSAL = {"is_causal": True} if int(torch.__version__.split(".")[0]) >= 2 else {}


class Gpt(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.characters = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.positions = torch.nn.Embedding(LENGTH, WIDTH)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(
                WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(LAYERS)
        )
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.mask = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)

    def forward(self, tokens):
        x = self.characters(tokens) + self.positions.weight
        for layer in self.layers:
            x = layer(x, self.mask, **CAUSAL)
        return self.head(self.norm(x))


torch.set_num_threads(int(sys.argv[7]))
model = Gpt()
rival.fill_named(model, 0.05)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
t = torch.arange(LENGTH + 1)
tokens = (torch.arange(BATCH)[:, None] * 31 + t * t * 7 + t) % VOCABULARY
x, y = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)
criterion = torch.nn.functional.cross_entropy
rival.serve(model, optimizer, lambda: criterion(model(x).reshape(-1, VOCABULARY), y))
