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


def loss_cases():
    """Each loss with the gradients of its floating inputs, under a gradient of a formula."""
    f = torch.nn.functional
    labels = torch.tensor([3, 0, 4, 2, 4, 1])
    grid = torch.tensor([[[1, 0], [2, 2], [0, 1]], [[0, 2], [1, 1], [2, 0]]])
    signs = torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0, -1.0], dtype=torch.float64)
    wide, unit = (-3.0, 3.0), (0.05, 0.95)
    logits, volume = ((6, 5), *wide), ((2, 3, 3, 2), *wide)
    pair = [((4, 3), *wide), ((4, 3), *wide)]
    cases = []
    seed = 800

    def add(op, function, inputs, options=None, extra=(), tensors=None):
        """`extra` come after the inputs; `tensors` are options: names with shapes in [0.5, 2)."""
        nonlocal seed
        leaves, described = [], []
        for shape, low, high in inputs:
            leaves.append(uniform(seed, shape, low, high).requires_grad_())
            described.append({"seed": seed, "shape": list(shape), "low": low, "high": high})
            seed += 1
        given, made = {}, {}
        for name, (theirs, shape) in (tensors or {}).items():
            made[name] = {"seed": seed, "shape": list(shape), "low": 0.5, "high": 2.0}
            given[theirs] = uniform(seed, shape, 0.5, 2.0)
            seed += 1
        output = function(leaves, given)
        dout = uniform(seed, tuple(output.shape))
        output.backward(dout)
        cases.append(
            {
                "op": op, "inputs": described, "options": options or {}, "tensors": made,
                "extra": [{"dtype": str(x.dtype)[6:], **packed(x)} for x in extra],
                "doutSeed": seed, "output": packed(output),
                "gradients": [
                    packed(x.grad if x.grad is not None else torch.zeros_like(x)) for x in leaves
                ],
            }
        )
        seed += 1

    for r in ("mean", "sum", "none"):
        o = {"reduction": r}
        add("mseLoss", lambda x, _: f.mse_loss(*x, reduction=r), pair, o)
        add("mseLoss", lambda x, _: f.mse_loss(*x, reduction=r) / 2, pair, {**o, "half": True})
        add("l1Loss", lambda x, _: f.l1_loss(*x, reduction=r), pair, o)
        for beta in (1.0, 0.3):
            add("smoothL1Loss", lambda x, _: f.smooth_l1_loss(*x, reduction=r, beta=beta), pair,
                {**o, "beta": beta})
            add("huberLoss", lambda x, _: f.huber_loss(*x, reduction=r, delta=beta), pair,
                {**o, "delta": beta})
        add("binaryCrossEntropy",
            lambda x, t: f.binary_cross_entropy(*x, reduction=r, **t),
            [((4, 3), *unit), ((4, 3), *unit)], o, tensors={"weight": ("weight", (3,))})
        add("binaryCrossEntropyWithLogits",
            lambda x, t: f.binary_cross_entropy_with_logits(*x, reduction=r, **t),
            [((4, 3), -30.0, 30.0), ((4, 3), *unit)], o)
        add("binaryCrossEntropyWithLogits",
            lambda x, t: f.binary_cross_entropy_with_logits(*x, reduction=r, **t),
            [((4, 3), *wide), ((4, 3), *unit)], o,
            tensors={"weight": ("weight", (4, 1)), "posWeight": ("pos_weight", (3,))})
        for smoothing in (0.0, 0.2):
            given = {**o, "labelSmoothing": smoothing}
            add("crossEntropy",
                lambda x, t: f.cross_entropy(*x, labels, reduction=r, label_smoothing=smoothing, **t),
                [logits], given, (labels,), {"weight": ("weight", (5,))})
            add("crossEntropy",
                lambda x, t: f.cross_entropy(*x, reduction=r, label_smoothing=smoothing, **t),
                [logits, ((6, 5), *unit)], given, (), {"weight": ("weight", (5,))})
            add("crossEntropy",
                lambda x, t: f.cross_entropy(
                    *x, labels, reduction=r, label_smoothing=smoothing, ignore_index=4, **t),
                [logits], {**given, "ignoreIndex": 4}, (labels,), {"weight": ("weight", (5,))})
            add("crossEntropy",
                lambda x, t: f.cross_entropy(*x, grid, reduction=r, label_smoothing=smoothing),
                [volume], given, (grid,))
        add("crossEntropy", lambda x, t: f.cross_entropy(*x, reduction=r),
            [volume, ((2, 3, 3, 2), *unit)], o)
        add("nllLoss", lambda x, t: f.nll_loss(*x, labels, reduction=r), [logits], o, (labels,))
        add("nllLoss", lambda x, t: f.nll_loss(*x, grid, reduction=r, ignore_index=2, **t), [volume],
            {**o, "ignoreIndex": 2}, (grid,), {"weight": ("weight", (3,))})
        add("multiMarginLoss",
            lambda x, t: f.multi_margin_loss(*x, labels, p=2, margin=0.7, reduction=r, **t),
            [logits], {**o, "p": 2, "margin": 0.7}, (labels,), {"weight": ("weight", (5,))})
        add("multiMarginLoss", lambda x, t: f.multi_margin_loss(*x, labels, reduction=r), [logits],
            o, (labels,))
        add("cosineEmbeddingLoss",
            lambda x, t: f.cosine_embedding_loss(*x, signs, margin=-0.3, reduction=r),
            [logits, logits], {**o, "margin": -0.3}, (signs,))
        add("hingeEmbeddingLoss",
            lambda x, t: f.hinge_embedding_loss(*x, signs, margin=1.5, reduction=r),
            [((6,), *wide)], {**o, "margin": 1.5}, (signs,))
        add("marginRankingLoss",
            lambda x, t: f.margin_ranking_loss(*x, signs, margin=0.5, reduction=r),
            [((6,), *wide), ((6,), *wide)], {**o, "margin": 0.5}, (signs,))
        add("tripletMarginLoss", lambda x, t: f.triplet_margin_loss(*x, reduction=r),
            [logits, logits, logits], o)
        add("tripletMarginLoss",
            lambda x, t: f.triplet_margin_loss(*x, reduction=r, margin=4.0, p=3, swap=True),
            [logits, logits, logits], {**o, "margin": 4, "p": 3, "swap": True})
        add("poissonNLLLoss",
            lambda x, t: f.poisson_nll_loss(*x, reduction=r, full=True),
            [((4, 3), *wide), ((4, 3), 0.0, 5.0)], {**o, "full": True})
        add("poissonNLLLoss",
            lambda x, t: f.poisson_nll_loss(*x, reduction=r, log_input=False),
            [((4, 3), 0.5, 3.0), ((4, 3), 0.0, 5.0)], {**o, "logInput": False})
    for r in ("mean", "sum", "none", "batchmean"):
        for log in (False, True):
            low, high = (-3.0, 0.0) if log else unit
            add("klDivLoss", lambda x, t: f.kl_div(*x, reduction=r, log_target=log),
                [((4, 3), -3.0, 0.0), ((4, 3), low, high)], {"reduction": r, "logTarget": log})
    add("cosineSimilarity", lambda x, t: f.cosine_similarity(*x), [logits, logits])
    add("cosineSimilarity", lambda x, t: f.cosine_similarity(*x, dim=0), [volume, volume],
        {"axis": 0})
    for r in ("mean", "none"):
        add("nllLoss", lambda x, t: f.nll_loss(*x, labels[0], reduction=r, **t), [((5,), *wide)],
            {"reduction": r}, (labels[0],), {"weight": ("weight", (5,))})
    add("nllLoss", lambda x, t: f.nll_loss(*x, labels, reduction="sum", ignore_index=4, **t),
        [logits], {"reduction": "sum", "ignoreIndex": 4}, (labels,), {"weight": ("weight", (5,))})
    return cases


def schedule_cases():
    """Learning rates (and momenta) of two groups before each of 30 steps."""
    o = torch.optim.lr_scheduler
    runs = [
        ("StepLR", o.StepLR, {"stepSize": 4}, {"step_size": 4}),
        ("StepLR", o.StepLR, {"stepSize": 7, "gamma": 0.5}, {"step_size": 7, "gamma": 0.5}),
        ("MultiStepLR", o.MultiStepLR, {"milestones": [3, 10, 10, 20], "gamma": 0.3}, None),
        ("ExponentialLR", o.ExponentialLR, {"gamma": 0.9}, None),
        ("CosineAnnealingLR", o.CosineAnnealingLR, {"tMax": 12, "etaMin": 0.01},
         {"T_max": 12, "eta_min": 0.01}),
        ("CosineAnnealingLR", o.CosineAnnealingLR, {"tMax": 29}, {"T_max": 29}),
        ("CosineAnnealingWarmRestarts", o.CosineAnnealingWarmRestarts, {"t0": 7}, {"T_0": 7}),
        ("CosineAnnealingWarmRestarts", o.CosineAnnealingWarmRestarts,
         {"t0": 3, "tMult": 2, "etaMin": 0.02}, {"T_0": 3, "T_mult": 2, "eta_min": 0.02}),
        ("LinearLR", o.LinearLR, {}, {}),
        ("LinearLR", o.LinearLR, {"startFactor": 0.1, "endFactor": 0.8, "totalIters": 12},
         {"start_factor": 0.1, "end_factor": 0.8, "total_iters": 12}),
        ("OneCycleLR", o.OneCycleLR, {"maxLr": 0.5, "totalSteps": 30},
         {"max_lr": 0.5, "total_steps": 30}),
        ("OneCycleLR", o.OneCycleLR,
         {"maxLr": [0.5, 0.2], "totalSteps": 31, "pctStart": 0.4, "annealStrategy": "linear",
          "divFactor": 10, "finalDivFactor": 100, "threePhase": True, "baseMomentum": 0.7},
         {"max_lr": [0.5, 0.2], "total_steps": 31, "pct_start": 0.4, "anneal_strategy": "linear",
          "div_factor": 10, "final_div_factor": 100, "three_phase": True, "base_momentum": 0.7}),
        ("LambdaLR", lambda x, f: o.LambdaLR(x, f), {}, {"f": lambda t: 0.9**t + 0.1 * (t % 3)}),
    ]
    measures = [round(float(m), 6) for m in 2.0 - mixed(900, 30) * 0.2]
    plateaus = [
        ({"patience": 2}, {"patience": 2}),
        ({"mode": "max", "factor": 0.5, "patience": 1, "threshold": 0.01, "thresholdMode": "abs",
          "cooldown": 2, "minLr": 0.01},
         {"mode": "max", "factor": 0.5, "patience": 1, "threshold": 0.01, "threshold_mode": "abs",
          "cooldown": 2, "min_lr": 0.01}),
    ]

    def sgd():
        groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in (0.1, 0.3)]
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9)

    def rates(optimizer, step):
        found, momenta = [], []
        for t in range(30):
            found.append([float(f"{g['lr']:.15g}") for g in optimizer.param_groups])
            momenta.append(float(f"{optimizer.param_groups[0]['momentum']:.15g}"))
            if t < 29:
                optimizer.step()
                step(t)
        return {"rates": found, "momenta": momenta}

    cases = []
    for name, make, options, theirs in runs:
        optimizer = sgd()
        schedule = make(optimizer, **(options if theirs is None else theirs))
        found = rates(optimizer, lambda t: schedule.step())
        cases.append({"schedule": name, "options": options, **found})
    for options, theirs in plateaus:
        optimizer = sgd()
        plateau = o.ReduceLROnPlateau(optimizer, **theirs)
        found = rates(optimizer, lambda t: plateau.step(measures[t]))
        cases.append(
            {"schedule": "ReduceLROnPlateau", "options": options, "measures": measures, **found}
        )
    return cases


def main():
    made_by = {"madeBy": "test/vectors/training.py"}
    optimizers = {"optimizers": optimizer_cases(), "clipping": clipping_cases()}
    write("training.json", {**made_by, **optimizers})
    write("schedules.json", {**made_by, "cases": schedule_cases()})
    write("losses.json", {**made_by, "cases": loss_cases()})


if __name__ == "__main__":
    main()
