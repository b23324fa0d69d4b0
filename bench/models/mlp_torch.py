"""The MLP step by PyTorch: `mlp_torch.py THREADS`; sizes as in mlp.ts."""

import sys

import rival
import torch

SIZES = [784, 256, 128, 10]
BATCH = 100

torch.set_num_threads(int(sys.argv[1]))
layers = []
for layer, (inputs, outputs) in enumerate(zip(SIZES, SIZES[1:])):
    linear = torch.nn.Linear(inputs, outputs)
    rival.fill(linear.weight, layer, 1 / inputs**0.5)
    torch.nn.init.zeros_(linear.bias)
    layers += [linear, torch.nn.ReLU()]
model = torch.nn.Sequential(*layers[:-1])
criterion = torch.nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9)
x = (rival.formula(BATCH * SIZES[0], 0, 256).float() / 128 - 1).reshape(BATCH, SIZES[0])
y = torch.arange(BATCH) % 10
rival.serve(model, optimizer, lambda: criterion(model(x), y))
