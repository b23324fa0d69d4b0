"""The LSTM steps by PyTorch: `lstm_torch.py lstm|keras-lstm THREADS`; sizes as in lstm.ts."""

import sys

import rival
import torch

# Tokens, embedding, hidden, layers, dropout, outputs.
CLASSIFIERS = {"lstm": (25002, 100, 256, 2, 0.5, 2), "keras-lstm": (10000, 32, 128, 1, 0.0, 1)}
BATCH, STEPS = 32, 200


class Model(torch.nn.Module):
    def __init__(self, tokens, embedding, hidden, layers, dropout, outputs):
        super().__init__()
        self.embedding = torch.nn.Embedding(tokens, embedding)
        self.lstm = torch.nn.LSTM(embedding, hidden, layers, batch_first=True, dropout=dropout)
        self.head = torch.nn.Linear(hidden, outputs)
        for at, parameter in enumerate(self.parameters()):
            rival.fill(parameter, at, 1 if at == 0 else 1 / hidden**0.5)

    def forward(self, tokens):
        _, (h, _) = self.lstm(self.embedding(tokens))
        return self.head(h[-1])


sizes = CLASSIFIERS[sys.argv[1]]
torch.set_num_threads(int(sys.argv[2]))
# Without it a step takes several times as long: gradients fade over 200 steps.
torch.set_flush_denormal(True)
model = Model(*sizes)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
x = torch.arange(BATCH * STEPS).mul(7919).remainder(sizes[0]).reshape(BATCH, STEPS)
y = torch.arange(BATCH) % 2
if sizes[5] > 1:
    criterion = torch.nn.CrossEntropyLoss()
else:
    criterion, y = torch.nn.BCEWithLogitsLoss(), y.float()[:, None]
rival.serve(model, optimizer, lambda: criterion(model(x), y), warm_up=10)
