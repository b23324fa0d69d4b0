"""The CNN step by PyTorch: `cnn_torch.py THREADS`; sizes as in cnn.ts."""

import sys

import rival
import torch

BATCH = 32
CHANNELS = [3, 32, 64, 128]
SIDE = 150
HIDDEN = 512


def build():
    layers, side = [], SIDE
    for inputs, outputs in zip(CHANNELS, CHANNELS[1:]):
        layers += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        side = (side - 2) // 2
    layers += [torch.nn.Flatten(), torch.nn.Linear(CHANNELS[-1] * side * side, HIDDEN)]
    layers += [torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1)]
    model = torch.nn.Sequential(*layers)
    for at, parameter in enumerate(model.parameters()):
        if parameter.dim() == 1:
            torch.nn.init.zeros_(parameter)
        else:
            rival.fill(parameter, at, (parameter.shape[0] / parameter.numel()) ** 0.5)
    return model


torch.set_num_threads(int(sys.argv[1]))
model = build()
criterion = torch.nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
shape = (BATCH, CHANNELS[0], SIDE, SIDE)
x = (rival.formula(BATCH * CHANNELS[0] * SIDE * SIDE, 0, 2039) / 2039).float().reshape(shape)
y = (torch.arange(BATCH) % 2).float().reshape(BATCH, 1)
rival.serve(model, optimizer, lambda: criterion(model(x), y), warm_up=3)
