"""Writes metrics.json: scikit-learn's values of metrics, for test/metrics/metrics.test.ts.

Run: python3 test/vectors/metrics.py
"""

import json
import os

import numpy as np
import sklearn
from sklearn import metrics as m

rng = np.random.default_rng(7)
cases = []


def rounded(x):
    return [float(np.float32(v)) for v in np.asarray(x).reshape(-1)]


def binary(n, quantum):
    scores = np.float32(np.round(rng.random(n) / quantum) * quantum)
    labels = (rng.random(n) < 0.25 + 0.5 * scores).astype(int)
    predicted = (scores > 0.5).astype(int)
    cases.append({
        "kind": "binary",
        "scores": rounded(scores),
        "labels": labels.tolist(),
        "expected": {
            "accuracy": m.accuracy_score(labels, predicted),
            "precision": m.precision_score(labels, predicted, zero_division=0),
            "recall": m.recall_score(labels, predicted, zero_division=0),
            "f1": m.f1_score(labels, predicted, zero_division=0),
            "auc": m.roc_auc_score(labels, scores),
            "confusion": m.confusion_matrix(labels, predicted, labels=[0, 1]).tolist(),
        },
    })


def classes(n, c):
    scores = np.float32(rng.random((n, c)))
    # The last class is never right nor chosen in the smallest case.
    labels = np.where(rng.random(n) < 0.5, scores.argmax(1), rng.integers(0, c, n))
    predicted = scores.argmax(1)
    expected = {
        "accuracy": m.accuracy_score(labels, predicted),
        "confusion": m.confusion_matrix(labels, predicted, labels=list(range(c))).tolist(),
        "top2": m.top_k_accuracy_score(labels, scores, k=2, labels=list(range(c))),
    }
    for average in ["macro", "micro", "weighted"]:
        options = {"average": average, "zero_division": 0}
        expected[f"precision_{average}"] = m.precision_score(labels, predicted, **options)
        expected[f"recall_{average}"] = m.recall_score(labels, predicted, **options)
        expected[f"f1_{average}"] = m.f1_score(labels, predicted, **options)
    cases.append({
        "kind": "classes",
        "classes": c,
        "scores": rounded(scores),
        "labels": labels.tolist(),
        "expected": expected,
    })


def regression(n, offset):
    target = np.float32(rng.normal(offset, 2, n))
    prediction = np.float32(target + rng.normal(0, 1, n))
    t, p = target.astype(np.float64), prediction.astype(np.float64)
    cases.append({
        "kind": "regression",
        "scores": rounded(prediction),
        "labels": rounded(target),
        "expected": {
            "mse": m.mean_squared_error(t, p),
            "mae": m.mean_absolute_error(t, p),
            "rmse": float(np.sqrt(m.mean_squared_error(t, p))),
            "r2": m.r2_score(t, p),
        },
    })


def outputs(n, offsets):
    target = np.float32(np.stack([rng.normal(offset, 2, n) for offset in offsets], 1))
    prediction = np.float32(target + rng.normal(0, 1, target.shape) * [0.3, 1.5])
    r2 = m.r2_score(target.astype(np.float64), prediction.astype(np.float64))
    cases.append({
        "kind": "outputs",
        "classes": len(offsets),
        "scores": rounded(prediction),
        "labels": rounded(target),
        "expected": {"r2": r2},
    })


binary(50, 1e-6)
binary(300, 0.05)  # with ties
classes(12, 7)
classes(200, 4)
regression(40, 0)
regression(150, 1000)
regression(60, 1e6)  # where sums of squares would cancel
outputs(40, [0, 1e6])

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "metrics.json"), "w") as file:
    json.dump({"sklearn": sklearn.__version__, "cases": cases}, file)
