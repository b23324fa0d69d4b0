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


def tensors(arguments):
    """Arguments as JSON has them: a tensor is its dtype and values."""
    return [
        torch.tensor(a['values'], dtype=getattr(torch, a['dtype'])) if isinstance(a, dict) else a
        for a in arguments
    ]


def call(op, function, *arguments):
    result = function(*tensors(arguments))
    values = [x.item() for x in result.reshape(-1)]
    return {'op': op, 'arguments': arguments, 'dtype': name(result.dtype), 'values': values}


f = torch.nn.functional
calls = []
for dtype in ('int32', 'int64', 'uint8'):
    x = {'dtype': dtype, 'values': [3, 0, 1, 9]}
    y = {'dtype': dtype, 'values': [5, 0, 0, 3]}
    mask = {'dtype': 'bool', 'values': [True, False, True, False]}
    for op in ('floor', 'ceil', 'round', 'trunc'):
        calls.append(call(op, getattr(torch, op), x))
    calls.append(call('relu6', f.relu6, x))
    if dtype != 'uint8':
        signed = {'dtype': dtype, 'values': [-3, -1, 0, 2]}
        calls.append(call('hardtanh', f.hardtanh, signed))
        calls.append(call('relu6', f.relu6, signed))
        # Powers of 1, -1 and others with negative exponents.
        bases = {'dtype': dtype, 'values': [1, -1, -1, 2, -2]}
        calls.append(call('pow', torch.pow, bases, {'dtype': dtype, 'values': [-2, -3, -2, -1, 3]}))
    for other in (y, 2, 0.5, {'dtype': 'uint8', 'values': [1, 2, 3, 2]}):
        calls.append(call('pow', torch.pow, x, other))
    calls.append(call('pow', torch.pow, 3, x))
    calls.append(call('pow', torch.pow, 0.5, x))
    for other in (2, 0.5, y):
        calls.append(call('where', torch.where, mask, x, other))
        calls.append(call('where', torch.where, mask, other, x))
calls.append(call('where', torch.where, mask, 1, 0))
calls.append(call('where', torch.where, mask, 1.5, 0))
calls.append(call('where', torch.where, mask, mask, 2))
path = pathlib.Path(__file__).with_name('promotion.json')
path.write_text(json.dumps({'torch': torch.__version__, 'cases': cases, 'numbers': numbers, 'calls': calls}) + '\n')
