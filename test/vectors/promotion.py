"""Writes promotion.json: torch.result_type for every pair of dtypes, of arrays, scalars and numbers."""
import json
import pathlib

import torch

names = ['float32', 'float64', 'bfloat16', 'float16', 'int32', 'int64', 'uint8', 'bool']
dtypes = [getattr(torch, name) for name in names]


def name(dtype):
    return str(dtype).split('.')[1]


cases = []
for a in dtypes:
    for b in dtypes:
        array, other = torch.ones(2, dtype=a), torch.ones(2, dtype=b)
        scalar = torch.ones((), dtype=b)
        cases.append({
            'a': name(a),
            'b': name(b),
            'arrays': name(torch.result_type(array, other)),
            'scalar': name(torch.result_type(array, scalar)),
            'div': name(torch.div(array, other).dtype),
        })
numbers = [
    {
        'a': name(a),
        'whole': name(torch.result_type(torch.ones(2, dtype=a), 2)),
        'real': name(torch.result_type(torch.ones(2, dtype=a), 2.5)),
    }
    for a in dtypes
]
path = pathlib.Path(__file__).with_name('promotion.json')
path.write_text(json.dumps({'torch': torch.__version__, 'cases': cases, 'numbers': numbers}) + '\n')
