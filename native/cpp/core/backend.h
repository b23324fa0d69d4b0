// The contract between ops and backends: one table of family functions per backend.
//
// Every function enqueues on `stream` and returns; none waits, allocates a result or knows of
// autograd. The op layer (ops/) has already checked shapes and dtypes and allocated every
// output, so a backend may rely on what stands beside each function. Unless said otherwise
// outputs are contiguous and inputs may have any strides, 0 included. Sizes of 0 are legal.
// Plain data only: CPU backends include this once per instruction set. A family has one name
// everywhere: core/families/x.h, ops/x.cc, cpu/x.cc, cuda/x.cu, lib/ops/x.ts.
#pragma once

#include "core/families/attention.h"
#include "core/families/binary.h"
#include "core/families/conv.h"
#include "core/families/copy.h"
#include "core/families/dropout.h"
#include "core/families/embedding.h"
#include "core/families/fill.h"
#include "core/families/gather.h"
#include "core/families/gemm.h"
#include "core/families/index.h"
#include "core/families/loss.h"
#include "core/families/movement.h"
#include "core/families/norm.h"
#include "core/families/optim.h"
#include "core/families/pool.h"
#include "core/families/random.h"
#include "core/families/reduce.h"
#include "core/families/rnn.h"
#include "core/families/rotary.h"
#include "core/families/sample.h"
#include "core/families/scaler.h"
#include "core/families/scan.h"
#include "core/families/softmax.h"
#include "core/families/sort.h"
#include "core/families/unary.h"
#include "core/families/variance.h"

namespace nodegrad {

struct Backend {
#define NODEGRAD_FAMILY(name, Family) const Family* name;
#include "core/families.def"
#undef NODEGRAD_FAMILY
};

}  // namespace nodegrad
