"""Writes training.json with PyTorch: /usr/bin/python3 test/vectors/training.py

Ten steps of each optimizer, losses with their gradients, and learning rates of schedules. Inputs
come from the formula of generate.py; values are computed in float64 and kept to 12 digits.
"""
import math

import torch

from generate import mixed, packed, plain, uniform, write

snake = {
    "weightDecay": "weight_decay", "lrDecay": "lr_decay",
    "initialAccumulatorValue": "initial_accumulator_value",
}


class ClassicalSGD(torch.optim.Optimizer):
    """v = momentum v + lr g; w -= v, or lr g + momentum v with Nesterov."""

    def __init__(self, parameters, lr, momentum=0.0, nesterov=False, form=None):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "nesterov": nesterov})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                v = self.state[p].setdefault("v", torch.zeros_like(p))
                v.mul_(group["momentum"]).add_(p.grad, alpha=group["lr"])
                p.sub_(group["lr"] * p.grad + group["momentum"] * v if group["nesterov"] else v)


class Lion(torch.optim.Optimizer):
    """Program 1 of Chen et al. 2023."""

    def __init__(self, parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
        super().__init__(
            parameters,
            {"lr": lr, "betas": betas, "wd": weight_decay, "sign": -1.0 if maximize else 1.0},
        )

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                g = group["sign"] * p.grad
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                direction = torch.sign(b1 * m + (1 - b1) * g)
                p.mul_(1 - group["lr"] * group["wd"]).sub_(group["lr"] * direction)
                m.mul_(b2).add_((1 - b2) * g)


def optimizer_cases():
    """Ten steps of two parameters from gradients of a formula; the parameters after each step."""
    adam, o = torch.optim.Adam, torch.optim
    runs = [
        ("SGD", ClassicalSGD, {"lr": 0.1, "momentum": 0.9, "form": "classical"}),
        ("SGD", ClassicalSGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True, "form": "classical"}),
        ("SGD", ClassicalSGD, {"lr": 0.1, "form": "classical"}),
        ("Adam", adam, {"lr": 0.01, "amsgrad": True}),
        ("AdamW", o.AdamW, {"lr": 0.01, "amsgrad": True, "weightDecay": 0.1}),
        ("RMSprop", o.RMSprop, {}),
        ("RMSprop", o.RMSprop, {"lr": 0.02, "alpha": 0.9, "eps": 1e-6, "momentum": 0.8}),
        ("RMSprop", o.RMSprop, {"centered": True, "weightDecay": 0.05}),
        ("RMSprop", o.RMSprop, {"centered": True, "momentum": 0.9, "maximize": True}),
        ("Adagrad", o.Adagrad, {}),
        ("Adagrad", o.Adagrad, {"lr": 0.1, "lrDecay": 0.05, "weightDecay": 0.1, "eps": 1e-6}),
        ("Adagrad", o.Adagrad, {"lr": 0.1, "initialAccumulatorValue": 0.5, "maximize": True}),
        ("Adadelta", o.Adadelta, {}),
        ("Adadelta", o.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weightDecay": 0.1}),
        ("Adadelta", o.Adadelta, {"maximize": True}),
        ("Lion", Lion, {}),
        ("Lion", Lion, {"lr": 0.01, "betas": [0.8, 0.95], "weightDecay": 0.1}),
        ("Lion", Lion, {"lr": 0.01, "maximize": True}),
    ]
    cases = []
    for name, make, options in runs:
        shapes = [(3, 4), (5,)]
        parameters = [uniform(500 + i, s).requires_grad_() for i, s in enumerate(shapes)]
        given = {snake.get(k, k): tuple(v) if isinstance(v, list) else v for k, v in options.items()}
        optimizer = make(parameters, **given)
        steps = []
        for step in range(10):
            for i, parameter in enumerate(parameters):
                parameter.grad = uniform(600 + 10 * step + i, shapes[i])
            optimizer.step()
            steps.append([plain(p) for p in parameters])
        cases.append({"optimizer": name, "options": options, "shapes": shapes, "steps": steps})
    return cases


def clipping_cases():
    """Norms of two gradients, and the gradients after clipping."""
    cases = []
    for p in (2.0, 1.0, 3.0, math.inf):
        for limit in (0.5, 100.0):
            leaves = [torch.zeros(3, 4, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)]
            for i, leaf in enumerate(leaves):
                leaf.requires_grad_()
                leaf.grad = uniform(700 + i, leaf.shape)
            norm = torch.nn.utils.clip_grad_norm_(leaves, limit, p)
            cases.append(
                {
                    "p": "Infinity" if p == math.inf else p, "limit": limit, "norm": norm.item(),
                    "gradients": [packed(leaf.grad) for leaf in leaves],
                }
            )
    return cases


def main():
    write(
        "training.json",
        {"madeBy": "test/vectors/training.py", "optimizers": optimizer_cases(), "clipping": clipping_cases()},
    )


if __name__ == "__main__":
    main()
