"""The example sentiment-lstm by PyTorch: same words, network, sizes and budget; prints accuracy.

    python3 bench/models/sentiment_torch.py [--data aclImdb] [--vectors FILE] [--seed 0] ...

Flags and defaults are those of `npm run example sentiment-lstm`, and --threads. Batches are of like
length, padded to their longest review; h is taken after each review's last word, as from packed
sequences, with which PyTorch took several times as long on a CPU. Cleaning, words and vocabulary
follow lib/data/text.ts; the counts of words that both print must agree.
"""

import argparse
import collections
import csv
import gzip
import math
import os
import re
import time
import unicodedata

# OpenBLAS takes its slowest kernels on a processor that it does not know; see support/openblas.ts.
with open("/proc/cpuinfo") as cpuinfo:
    sets = cpuinfo.read()
for flag, core in {"avx512f": "SkylakeX", "avx2": "Haswell"}.items():
    if f" {flag} " in sets:
        os.environ.setdefault("OPENBLAS_CORETYPE", core)

import torch  # noqa: E402
from torch.nn.utils.rnn import pad_sequence  # noqa: E402

parser = argparse.ArgumentParser()
for name, value in {
    "epochs": 6, "batch": 64, "lr": 0.001, "clip": 1e9, "seed": 0, "words": 25000, "length": 256,
    "hidden": 256, "threads": 1,
}.items():
    parser.add_argument(f"--{name}", type=type(value), default=value)
parser.add_argument("--reviews", type=int, default=math.inf)
parser.add_argument("--test", choices=["every", "last"], default="every", help="epochs to test after")
parser.add_argument("--data")
parser.add_argument("--vectors")
flags = parser.parse_args()
torch.manual_seed(flags.seed)
torch.set_num_threads(flags.threads)
# Without it a step takes several times as long: gradients fade over 256 steps.
torch.set_flush_denormal(True)

ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " "}
# What \s is in JavaScript.
SPACES = "\t-\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"


def clean(text):
    """lib/data/text.ts, cleanText."""

    def entity(found):
        name = found[1]
        if not name.startswith("#"):
            return ENTITIES.get(name.lower(), found[0])
        code = int(name[2:], 16) if name[1] in "xX" else int(name[1:])
        return chr(code) if 0 < code <= 0x10FFFF else found[0]

    text = re.sub(r"<(?:[/?]?[a-zA-Z]|!)[^<>]*>", " ", unicodedata.normalize("NFC", text))
    text = re.sub(r"&(#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]{2,6});", entity, text)
    return re.sub(f"[{SPACES}]+", " ", text.lower()).strip(" ")


WORD = re.compile(r"w+(?:['’-]w+)*|[^sw]")


def tokenize(text):
    """lib/data/text.ts, tokenize: w stands for letters, marks and digits, s for the space."""
    kinds = "".join(
        "w" if unicodedata.category(c)[0] in "LMN" else "s" if c == " " else c for c in text
    )
    return [text[found.start() : found.end()] for found in WORD.finditer(kinds)]


def read(part):
    """Reviews as words, and their classes: 0 is bad, 1 is good."""
    texts, labels = [], []
    if flags.data:
        for label, kind in enumerate(["neg", "pos"]):
            folder = os.path.join(flags.data, part, kind)
            for file in sorted(os.listdir(folder)):
                with open(os.path.join(folder, file), encoding="utf-8") as review:
                    texts.append(review.read())
                labels.append(label)
    else:
        with gzip.open(f"examples/data/reviews-{part}.csv.gz", "rt", encoding="utf-8", newline="") as rows:
            for row in csv.DictReader(rows):
                texts.append(row["review"])
                labels.append(int(row["score"] == "great"))
    every = max(1, len(texts) / flags.reviews)
    chosen = [i for i in range(len(texts)) if math.floor(math.fmod(i, every)) == 0]
    words = [tokenize(clean(texts[i]))[: flags.length] for i in chosen]
    print(f"{len(words)} reviews of {sum(map(len, words))} words to {part} on")
    return words, [labels[i] for i in chosen]


train, test = read("train"), read("test")
counts = collections.Counter(word for review in train[0] for word in review)
frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: flags.words]
vocabulary = {word: i for i, word in enumerate(["<pad>", "<unk>", *(word for word, _ in frequent)])}


def encoded(part):
    words, labels = part
    rows = [torch.tensor([vocabulary.get(word, 1) for word in review] or [0]) for review in words]
    return rows, torch.tensor(labels)


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(len(vocabulary), 100, padding_idx=0)
        self.lstm = torch.nn.LSTM(100, flags.hidden, 2, batch_first=True, dropout=0.5)
        self.head = torch.nn.Linear(flags.hidden, 2)

    def forward(self, tokens, lengths):
        output, _ = self.lstm(self.embedding(tokens))
        return self.head(output[torch.arange(len(lengths)), lengths - 1])


def batches(part, shuffled):
    """Pools of 100 batches in random order, each sorted by length and cut into batches."""
    rows, labels = part
    order = torch.randperm(len(rows)).tolist() if shuffled else range(len(rows))
    found = []
    for at in range(0, len(rows), 100 * flags.batch):
        pool = sorted(order[at : at + 100 * flags.batch], key=lambda i: len(rows[i]))
        found += [pool[i : i + flags.batch] for i in range(0, len(pool), flags.batch)]
    for place in torch.randperm(len(found)).tolist() if shuffled else range(len(found)):
        chosen = found[place]
        tokens = [rows[i] for i in chosen]
        lengths = torch.tensor([len(row) for row in tokens])
        yield pad_sequence(tokens, batch_first=True), lengths, labels[chosen]


def vectors_into(table):
    """The rows of words with a vector; others normal with the spread of those, as loadVectors."""
    opener = gzip.open if flags.vectors.endswith(".gz") else open
    found = {}
    with opener(flags.vectors, "rt", encoding="utf-8") as lines:
        for line in lines:
            parts = line.rstrip().split(" ")
            row = vocabulary.get(" ".join(parts[:-100])) if len(parts) > 100 else None
            if row is not None:
                found[row] = torch.tensor([float(number) for number in parts[-100:]])
    spread = torch.stack(list(found.values())).square().mean().sqrt()
    table[1:] *= spread
    for row, vector in found.items():
        table[row] = vector
    return len(found)


train, test = encoded(train), encoded(test)
model = Classifier()
with torch.no_grad():
    started = vectors_into(model.embedding.weight) if flags.vectors else 0
print(f"{len(vocabulary)} words, of which {started} start from vectors")
optimizer = torch.optim.Adam(model.parameters(), lr=flags.lr)
criterion = torch.nn.CrossEntropyLoss(reduction="sum")
for epoch in range(flags.epochs):
    model.train()
    clock, cpu, total = time.perf_counter(), time.process_time(), 0.0
    for tokens, lengths, labels in batches(train, True):
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(model(tokens, lengths), labels)
        (loss / len(labels)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), flags.clip)
        optimizer.step()
        total += loss.item()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    print(
        f"epoch {epoch + 1}/{flags.epochs}: mean loss {total / len(train[0]):.6f}, "
        f"{clock:.1f} s, {cpu:.1f} s of CPU",
        flush=True,
    )
    if flags.test == "last" and epoch + 1 < flags.epochs:
        continue
    model.eval()
    lost, correct = 0.0, 0
    with torch.no_grad():
        for tokens, lengths, labels in batches(test, False):
            scores = model(tokens, lengths)
            lost += criterion(scores, labels).item()
            correct += (scores.argmax(1) == labels).sum().item()
    rows = len(test[0])
    print(f"test: mean loss {lost / rows:.4f}, accuracy {100 * correct / rows:.2f}%", flush=True)
