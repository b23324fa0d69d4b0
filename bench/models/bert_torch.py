"""The step of BERT base by PyTorch: `bert_torch.py BATCH THREADS`; sizes as in bert.ts."""

import sys

import rival
import torch

LAYERS, HEADS, WIDTH, BETWEEN, VOCABULARY, LENGTHS = 12, 12, 768, 3072, 30522, 512
BATCH, LENGTH, DROPOUT = int(sys.argv[1]), 128, 0.1


class Embeddings(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.positions = torch.nn.Embedding(LENGTHS, WIDTH)
        self.types = torch.nn.Embedding(2, WIDTH)
        self.norm = torch.nn.LayerNorm(WIDTH, eps=1e-12)
        self.dropout = torch.nn.Dropout(DROPOUT)

    def forward(self, tokens):
        places = self.positions.weight[: tokens.shape[1]] + self.types.weight[0]
        return self.dropout(self.norm(self.words(tokens) + places))


class Bert(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = Embeddings()
        layer = torch.nn.TransformerEncoderLayer(
            WIDTH, HEADS, BETWEEN, DROPOUT, "gelu", layer_norm_eps=1e-12, batch_first=True
        )
        self.encoder = torch.nn.TransformerEncoder(layer, LAYERS)
        self.pooler = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens):
        return torch.tanh(self.pooler(self.encoder(self.embeddings(tokens))[:, 0]))


class Classifier(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = Bert()
        self.dropout = torch.nn.Dropout(DROPOUT)
        self.classifier = torch.nn.Linear(WIDTH, 2)

    def forward(self, tokens):
        return self.classifier(self.dropout(self.bert(tokens)))


torch.set_num_threads(int(sys.argv[2]))
model = Classifier()
rival.fill_named(model, 0.035)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-5)
x = torch.arange(BATCH * LENGTH).mul(7919).remainder(VOCABULARY).reshape(BATCH, LENGTH)
y = torch.arange(BATCH) % 2
criterion = torch.nn.CrossEntropyLoss()
rival.serve(model, optimizer, lambda: criterion(model(x), y), checked=3, warm_up=1)
