"""examples/cats-dogs.ts in PyTorch, on the same folders with the same preprocessing.

    /usr/bin/python3 bench/models/cats_dogs_torch.py --data DIR --size 150 --epochs 20 --threads 1
    npm run example cats-dogs -- --data DIR --size 150 --epochs 20

DIR has `train` and `test`, each with a folder per class, or two class folders, of which the first 80%
by name are trained on. Needs Pillow.
"""

import argparse
import os
import time

import torch
from PIL import Image

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def files_of(folder):
    found = []
    for where, _, names in os.walk(folder):
        found += [os.path.join(where, n) for n in names if n.lower().endswith(ENDINGS)]
    return sorted(found)


def by_class(folder):
    names = sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n)))
    return names, [files_of(os.path.join(folder, name)) for name in names]


def parts(folder):
    """Classes, and (file, class) pairs to train on and to test on."""

    def pairs(lists):
        return [(file, label) for label, files in enumerate(lists) for file in files]

    if os.path.exists(os.path.join(folder, "train")):
        names, train = by_class(os.path.join(folder, "train"))
        return names, pairs(train), pairs(by_class(os.path.join(folder, "test"))[1])
    names, lists = by_class(folder)
    cut = [int(0.8 * len(files)) for files in lists]
    train = [files[:n] for files, n in zip(lists, cut)]
    return names, pairs(train), pairs([files[n:] for files, n in zip(lists, cut)])


def load(pairs, size):
    images = torch.empty(len(pairs), 3, size, size, dtype=torch.uint8)
    for at, (file, _) in enumerate(pairs):
        with Image.open(file) as image:
            pixels = image.convert("RGB").resize((size, size), Image.NEAREST).tobytes()
        bytes_ = torch.frombuffer(bytearray(pixels), dtype=torch.uint8)
        images[at] = bytes_.reshape(size, size, 3).permute(2, 0, 1)
    return images, torch.tensor([float(label) for _, label in pairs]).reshape(-1, 1)


def build(size):
    layers, side = [], size
    for inputs, outputs in zip([3, 32, 64], [32, 64, 128]):
        layers += [torch.nn.Conv2d(inputs, outputs, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        side = (side - 2) // 2
    layers += [torch.nn.Flatten(), torch.nn.Linear(128 * side * side, 512), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(512, 1), torch.nn.Sigmoid())
    for parameter in model.parameters():  # Keras's first values
        if parameter.dim() > 1:
            torch.nn.init.xavier_uniform_(parameter)
        else:
            torch.nn.init.zeros_(parameter)
    return model


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--size", type=int, default=150)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    torch.set_num_threads(flags.threads)
    torch.manual_seed(flags.seed)

    names, train, test = parts(flags.data)
    print(f"{len(train)} pictures of {' and '.join(names)}, {len(test)} to test on", flush=True)
    started = time.process_time()
    (x, y), (unseen, truth) = load(train, flags.size), load(test, flags.size)
    print(f"decoded once, in {time.process_time() - started:.1f} s of CPU time", flush=True)

    model, criterion = build(flags.size), torch.nn.BCELoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)  # Keras's Adam
    for epoch in range(flags.epochs):
        started, wall = time.process_time(), time.time()
        model.train()
        total, right = 0.0, 0
        for rows in torch.randperm(len(x)).split(flags.batch):
            optimizer.zero_grad()
            found, target = model(x[rows].float() / 255), y[rows]
            loss = criterion(found, target)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(rows)
            right += ((found > 0.5) == (target > 0.5)).sum().item()
        print(
            f"epoch {epoch + 1}: loss {total / len(x):.4f}, accuracy {right / len(x):.4f}, "
            f"{time.time() - wall:.1f} s, {time.process_time() - started:.1f} s of CPU time",
            flush=True,
        )
    model.eval()
    with torch.no_grad():
        found = torch.cat([model(part.float() / 255) for part in unseen.split(flags.batch)])
    print(f"test accuracy: {100 * ((found > 0.5) == (truth > 0.5)).float().mean().item():.2f}%")


main()
