"""Writes norm.json with PyTorch: /usr/bin/python3 test/vectors/norm.py

Values and gradients of normalisation and embedding, and ten losses of small networks with each
layer; inputs follow the formula of generate.py.
"""
import numpy
import torch

from generate import Cases, mixed, plain, uniform, write

BATCH, CLASSES, WORDS = 8, 3, 12


class RMSNorm(torch.nn.Module):
    """PyTorch has it since 2.4: x / sqrt(mean(x²) + eps) · weight."""

    def __init__(self, size, eps=1e-5):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.weight


def op_cases():
    c = Cases()
    f = torch.nn.functional
    scale = lambda shape: (shape, 0.5, 1.5)
    shift = lambda shape: (shape, -1.0, 1.0)
    x = lambda *shape: (shape, -2.0, 3.0)
    for shape, row in (((5, 7), (7,)), ((2, 3, 4), (3, 4)), ((3, 40), (40,))):
        c.add("layerNorm", lambda a: f.layer_norm(a, row), [x(*shape)], (list(row),))
        c.add("layerNorm", lambda a, w, b: f.layer_norm(a, row, w, b),
              [x(*shape), scale(row), shift(row)], (list(row),))
        c.add("rmsNorm",
              lambda a, w: a * torch.rsqrt(
                  (a * a).mean(tuple(range(-len(row), 0)), keepdim=True) + 1e-5) * w,
              [x(*shape), scale(row)], (list(row),))
    for shape, groups in (((3, 6), 2), ((2, 4, 5), 2), ((2, 4, 3, 3), 4), ((2, 4, 3, 3), 1)):
        c.add("groupNorm", lambda a: f.group_norm(a, groups), [x(*shape)], (groups,))
        c.add("groupNorm", lambda a, w, b: f.group_norm(a, groups, w, b),
              [x(*shape), scale((shape[1],)), shift((shape[1],))], (groups,))
    c.add("instanceNorm", lambda a: f.instance_norm(a), [x(2, 3, 4, 5)])
    c.add("instanceNorm", lambda a, w, b: f.instance_norm(a, None, None, w, b),
          [x(2, 3, 6), scale((3,)), shift((3,))])
    for shape in ((6, 4), (3, 4, 5), (2, 3, 4, 2)):
        c.add("batchNorm", lambda a: f.batch_norm(a, None, None, None, None, True), [x(*shape)])
        c.add("batchNorm", lambda a, w, b: f.batch_norm(a, None, None, w, b, True),
              [x(*shape), scale((shape[1],)), shift((shape[1],))])
    index = torch.tensor([[2, 0, 2], [3, 1, 3]])
    for padding in (None, 0, -1):
        c.add("embedding", lambda w, i: f.embedding(i, w, padding_idx=padding),
              [((4, 3), -1.0, 1.0)], ({"paddingIdx": padding},), (index,))
    for mode in ("mean", "sum"):
        for padding in (None, 3):
            c.add("EmbeddingBag",
                  lambda w, i: f.embedding_bag(i, w, mode=mode, padding_idx=padding),
                  [((4, 3), -1.0, 1.0)], ({"mode": mode, "paddingIdx": padding},),
                  (torch.tensor([[2, 0, 2], [3, 1, 3], [3, 3, 3]]),))
    return c.cases


def model_of(name, dtype):
    nn = torch.nn
    flat = lambda size: [nn.Flatten(), nn.Linear(size, CLASSES)]
    layers = {
        "LayerNorm": lambda: [nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, CLASSES)],
        "RMSNorm": lambda: [nn.Linear(6, 8), RMSNorm(8), nn.Linear(8, CLASSES)],
        "BatchNorm1d": lambda: [nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)],
        "BatchNorm1d, mean of all": lambda: [
            nn.Linear(6, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, CLASSES)],
        "BatchNorm2d": lambda: [nn.BatchNorm2d(2, momentum=0.3)] + flat(18),
        "GroupNorm": lambda: [nn.GroupNorm(2, 4)] + flat(12),
        "InstanceNorm2d": lambda: [nn.InstanceNorm2d(2, affine=True)] + flat(18),
        "Embedding": lambda: [nn.Embedding(WORDS, 5, padding_idx=0)] + flat(20),
    }
    return nn.Sequential(*layers[name]()).to(dtype)


def network_case(name, shape):
    def losses(dtype):
        model = model_of(name, dtype)
        with torch.no_grad():
            for i, parameter in enumerate(model.parameters()):
                parameter.copy_(uniform(1000 + i, tuple(parameter.shape)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        found = []

        def loss_of(step):
            if name == "Embedding":
                words = mixed(2000 + step, BATCH * 4) * WORDS
                x = torch.from_numpy(words.astype(numpy.int64)).reshape(BATCH, 4)
            else:
                x = uniform(2000 + step, (BATCH, *shape)).to(dtype)
            labels = (mixed(3000 + step, BATCH) ** 2 * CLASSES).astype(numpy.int64)
            return torch.nn.functional.cross_entropy(model(x), torch.from_numpy(labels))

        for step in range(10):
            optimizer.zero_grad()
            loss = loss_of(step)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        model.eval()
        kept = {key.split(".")[1]: plain(value) for key, value in model.named_buffers()}
        return {"losses": found, "evaluated": loss_of(10).item(), "buffers": kept}

    return {
        "layer": name,
        "shape": shape,
        "float32": losses(torch.float32),
        "float64": losses(torch.float64),
    }


def main():
    images, rows = (2, 3, 3), (6,)
    networks = [
        network_case(name, shape)
        for name, shape in (
            ("LayerNorm", rows), ("RMSNorm", rows), ("BatchNorm1d", rows),
            ("BatchNorm1d, mean of all", rows), ("BatchNorm2d", images), ("GroupNorm", (4, 3)),
            ("InstanceNorm2d", images), ("Embedding", (4,)),
        )
    ]
    write("norm.json", {"madeBy": "test/vectors/norm.py", "cases": op_cases(), "networks": networks})


if __name__ == "__main__":
    main()
