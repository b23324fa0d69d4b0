"""The kernels that memory bounds by PyTorch, as memory_makers.ts has them by nodegrad."""

import torch
import torch.nn.functional as F


def over_rows(run):
    return lambda inputs, sizes: run(inputs["x"])


def over_two(run):
    return lambda inputs, sizes: run(inputs["x"], inputs["y"])


def by_index(run):
    return lambda inputs, sizes: run(inputs["x"], inputs["index"])


def rotary(inputs, sizes):
    x, cosines, sines = inputs["x"], inputs["cosines"], inputs["sines"]
    half = x.shape[-1] // 2
    a, b = x[..., :half].float(), x[..., half:].float()
    return torch.cat([a * cosines - b * sines, b * cosines + a * sines], -1).to(x.dtype)


def images(run):
    """Over [N, C, H, W]; with the channels last the numbers lie so in memory, here as in ours."""

    def turned(inputs, sizes):
        if not sizes["last"]:
            return run(inputs, sizes)
        given = {**inputs, "x": inputs["x"].permute(0, 3, 1, 2)}
        return run(given, sizes).permute(0, 2, 3, 1)

    return turned


def batch_norm(inputs, sizes=None):
    return F.batch_norm(
        inputs["x"], None, None, inputs["weight"], inputs["bias"], training=True
    )


def window(sizes):
    return {"kernel_size": sizes["kernel"], "stride": 2, "padding": int(sizes["kernel"] == 3)}


def draws(run):
    """Draws depend on shapes alone."""

    def drawn(inputs, sizes):
        shape = (sizes["rows"], sizes["columns"])
        return run(shape, {"dtype": inputs["x"].dtype, "device": inputs["x"].device})

    return drawn


OPS = {
    "copy": over_rows(torch.clone),
    "sum": over_rows(lambda x: x.sum(1)),
    "softmax": over_rows(lambda x: x.softmax(-1)),
    "crossEntropy": by_index(F.cross_entropy),
    "layerNorm": lambda inputs, sizes: F.layer_norm(
        inputs["x"], (sizes["columns"],), inputs["weight"], inputs["bias"]
    ),
    "rmsNorm": lambda inputs, sizes: F.rms_norm(
        inputs["x"], (sizes["columns"],), inputs["weight"]
    ),
    "gelu": over_rows(F.gelu),
    "dropout": over_rows(lambda x: F.dropout(x, 0.1)),
    "transpose": over_rows(lambda x: x.t().contiguous()),
    "gradNorm": over_rows(torch.linalg.vector_norm),
    "batchNorm": batch_norm,
    "embedding": by_index(lambda x, index: F.embedding(index, x)),
    "lookups": by_index(lambda x, index: F.embedding(index, x)),
    "fill": draws(lambda shape, given: torch.full(shape, 1.5, **given)),
    "cast": over_rows(
        lambda x: x.to(torch.bfloat16 if x.dtype == torch.float32 else torch.float32)
    ),
    "exp": over_rows(torch.exp),
    "add": over_two(torch.add),
    "addRow": lambda inputs, sizes: inputs["x"] + inputs["row"],
    "where": lambda inputs, sizes: torch.where(inputs["mask"], inputs["x"], inputs["y"]),
    "flip": over_rows(lambda x: x.flip(1)),
    "cat": over_two(lambda x, y: torch.cat([x, y], 1)),
    "pad": over_rows(lambda x: F.pad(x, (1, 1))),
    "mse": over_two(F.mse_loss),
    "smoothL1": over_two(F.smooth_l1_loss),
    "bceLogits": over_two(F.binary_cross_entropy_with_logits),
    "nll": by_index(F.nll_loss),
    "smoothing": by_index(lambda x, index: F.cross_entropy(x, index, label_smoothing=0.1)),
    "rotary": rotary,
    "batchNorm2d": images(batch_norm),
    "groupNorm": lambda inputs, sizes: F.group_norm(
        inputs["x"], sizes["channels"] // 2, inputs["weight"], inputs["bias"]
    ),
    "maxPool": images(lambda inputs, sizes: F.max_pool2d(inputs["x"], **window(sizes))),
    "avgPool": images(lambda inputs, sizes: F.avg_pool2d(inputs["x"], **window(sizes))),
    "gather": by_index(lambda x, index: x.gather(1, index)),
    "scatterAdd": lambda inputs, sizes: inputs["x"].scatter_add(
        1, inputs["index"], inputs["y"]
    ),
    "indexSelect": by_index(lambda x, index: x.index_select(0, index)),
    "indexAdd": by_index(lambda x, index: torch.zeros_like(x).index_add_(0, index, x)),
    "sort": over_rows(lambda x: x.sort(1)[0]),
    "topk": over_rows(lambda x: x.topk(8, 1)[0]),
    "cumsum": over_rows(lambda x: x.cumsum(1)),
    "cumsumColumns": over_rows(lambda x: x.cumsum(0)),
    "argmax": over_rows(lambda x: x.argmax(1)),
    "variance": over_rows(lambda x: x.var(1)),
    "rand": draws(lambda shape, given: torch.rand(shape, **given)),
    "randn": draws(lambda shape, given: torch.randn(shape, **given)),
    "bernoulli": draws(lambda shape, given: torch.empty(shape, **given).bernoulli_(0.5)),
    "multinomial": over_rows(lambda x: torch.multinomial(x, 1)),
    "randperm": draws(
        lambda shape, given: torch.randperm(shape[0] * shape[1], device=given["device"])
    ),
}


def clip(inputs, sizes):
    weight = torch.zeros_like(inputs["x"]).requires_grad_()
    weight.grad = inputs["x"]
    return lambda _: torch.nn.utils.clip_grad_norm_([weight], 1.0).detach()


def unscale(inputs, sizes):
    x = inputs["x"]
    found, inverse = torch.zeros(1, device=x.device), torch.full((1,), 2.0**-16, device=x.device)

    def run(_):
        torch._amp_foreach_non_finite_check_and_unscale_([x], found, inverse)
        return x

    return run


def optimizer(kind, fastest, **options):
    """With what is fastest on a GPU, and can be recorded there."""

    def make(inputs, sizes):
        weights = [inputs[f"w{i}"].requires_grad_() for i in range(16)]
        for i, weight in enumerate(weights):
            weight.grad = inputs[f"g{i}"]
        on_gpu = fastest if weights[0].is_cuda else {}
        stepper = kind(weights, **options, **on_gpu)

        def run(_):
            stepper.step()
            return weights[0].detach()

        return run

    return make


CAPTURABLE = {"capturable": True}
# Ops that keep parameters of their own: made once, and never on several sets of inputs.
STATEFUL = {
    "clip": clip,
    "unscale": unscale,
    "adamw": optimizer(torch.optim.AdamW, {"fused": True, **CAPTURABLE}, lr=1e-3),
    "sgd": optimizer(torch.optim.SGD, {"fused": True}, lr=1e-3, momentum=0.9),
    "adam": optimizer(torch.optim.Adam, {"fused": True, **CAPTURABLE}, lr=1e-3),
    "rmsprop": optimizer(torch.optim.RMSprop, {"foreach": True, **CAPTURABLE}, lr=1e-3),
    "adagrad": optimizer(torch.optim.Adagrad, {"foreach": True}, lr=1e-3),
    "adadelta": optimizer(torch.optim.Adadelta, {"foreach": True, **CAPTURABLE}, lr=1.0),
}
