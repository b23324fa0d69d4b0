// Attention by warpgroups (attention_wgmma_forward.cu, attention_wgmma_backward.cu): which problems
// are theirs, and many lengths, against sums in float64; and tiles of keys that no form may read.
#include <algorithm>
#include <cmath>
#include <limits>

#include "attention_mma.h"
#include "attention_wgmma.h"
#include "harness.h"
#include "values.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;

namespace {

struct Problem {
  DType dtype;
  int64_t queries, keys, width;
  bool causal = false;
  int64_t batches = 1, heads = 1, kv_heads = 1;
};

// Multiples of 1/8 up to 1, exact in both types.
float eighth_of(size_t i, size_t salt) {
  return static_cast<float>(static_cast<int>((i * 2654435761u + salt * 977) >> 9 & 15) - 8) / 8;
}

// [batch][row][head][width], as a packed projection has it.
struct Rows {
  int64_t batches, heads, count, width;
  std::vector<float> values;
  Buffer<uint16_t> data;

  Rows(Stream& stream, const Problem& p, int64_t heads, int64_t count, size_t salt)
      : batches(p.batches),
        heads(heads),
        count(count),
        width(p.width),
        values(static_cast<size_t>(batches * heads * count * width)),
        data(values.size()) {
    std::vector<uint16_t> bits(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = eighth_of(i, salt);
      bits[i] = packed_half(p.dtype, values[i]);
    }
    data.write(stream, bits);
  }
  size_t at(int64_t batch, int64_t head, int64_t row) const {
    return static_cast<size_t>(((batch * count + row) * heads + head) * width);
  }
  AttentionOperand operand() const {
    const bool aligned = width % 8 == 0;
    return {data.data(), count * heads * width, width, heads * width, aligned};
  }
};

struct Case {
  std::unique_ptr<Stream> stream;
  Rows q, k, v, out, dout, dq, dk, dv;
  Buffer<float> lse, delta;
  Attention a{};

  explicit Case(const Problem& p)
      : stream(harness::hopper().make_stream()),
        q(*stream, p, p.heads, p.queries, 1),
        k(*stream, p, p.kv_heads, p.keys, 2),
        v(*stream, p, p.kv_heads, p.keys, 3),
        out(*stream, p, p.heads, p.queries, 4),
        dout(*stream, p, p.heads, p.queries, 5),
        dq(*stream, p, p.heads, p.queries, 6),
        dk(*stream, p, p.kv_heads, p.keys, 7),
        dv(*stream, p, p.kv_heads, p.keys, 8),
        lse(static_cast<size_t>(p.batches * p.heads * p.queries)),
        delta(static_cast<size_t>(p.batches * p.heads * p.queries)) {
    a.q = q.operand();
    a.k = k.operand();
    a.v = v.operand();
    a.out = out.operand();
    a.dout = dout.operand();
    a.dq = dq.operand();
    a.dk = dk.operand();
    a.dv = dv.operand();
    a.lse = lse.data();
    a.delta = delta.data();
    a.scale = 1 / std::sqrt(static_cast<double>(p.width));
    a.log2_scale = a.factor = static_cast<float>(a.scale * 1.4426950408889634);
    a.inverse_keep = 1;
    a.batches = p.batches;
    a.heads = p.heads;
    a.kv_heads = p.kv_heads;
    a.queries = p.queries;
    a.keys = p.keys;
    a.width = p.width;
    a.causal = p.causal;
  }
};

// Host code here is compiled with the checks of kernels, which would take most of the time.
NODEGRAD_UNCHECKED double dot(const float* x, const float* y, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{x[i]} * y[i];
  return sum;
}
NODEGRAD_UNCHECKED void add_scaled(double* sums, double factor, const float* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += factor * x[i];
}

void expect_near(const char* what, double actual, double expected, double tolerance) {
  if (std::fabs(actual - expected) > tolerance) {
    harness::fail_case(std::string(what) + ": " + std::to_string(actual) + ", expected " +
                       std::to_string(expected));
  }
}

// Weights of query i, and their lse.
double weights_of(const Case& c, const Problem& p, int64_t batch, int64_t head, int64_t i,
                  std::vector<double>& weights) {
  const int64_t end = p.causal ? std::min(i + 1, p.keys) : p.keys;
  const int64_t shared = head * p.kv_heads / p.heads;
  weights.assign(static_cast<size_t>(end), 0);
  double sum = 0;
  for (int64_t j = 0; j < end; ++j) {
    double& weight = weights[static_cast<size_t>(j)];
    weight = std::exp(c.a.scale * dot(&c.q.values[c.q.at(batch, head, i)],
                                      &c.k.values[c.k.at(batch, shared, j)], p.width));
    sum += weight;
  }
  for (double& weight : weights) weight /= sum;
  return std::log(sum);
}

void run_forward(const Problem& p) {
  Case c(p);
  EXPECT(launch_attention_wgmma_forward(*c.stream, p.dtype, c.a));
  const auto out = c.out.data.read(*c.stream);
  const auto lse = c.lse.read(*c.stream);
  std::vector<double> weights, sums(static_cast<size_t>(p.width));
  for (int64_t row = 0; row < p.batches * p.heads * p.queries; ++row) {
    const int64_t i = row % p.queries, head = row / p.queries % p.heads;
    const int64_t batch = row / p.queries / p.heads, shared = head * p.kv_heads / p.heads;
    const double expected = weights_of(c, p, batch, head, i, weights);
    expect_near("lse", lse[static_cast<size_t>(row)], expected, 1e-4);
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t j = 0; j < weights.size(); ++j) {
      const size_t at = c.v.at(batch, shared, static_cast<int64_t>(j));
      add_scaled(sums.data(), weights[j], &c.v.values[at], p.width);
    }
    for (int64_t d = 0; d < p.width; ++d) {
      const size_t at = c.out.at(batch, head, i) + static_cast<size_t>(d);
      expect_near("output", unpacked_half(p.dtype, out[at]), sums[static_cast<size_t>(d)],
                  2 * unit_of(p.dtype));
    }
  }
}

void expect_rows(const char* what, const Case& c, const Problem& p, const Rows& rows,
                 const std::vector<double>& expected) {
  const auto got = rows.data.read(*c.stream);
  for (size_t i = 0; i < got.size(); ++i) {
    const double tolerance = 4 * unit_of(p.dtype) * (1 + std::fabs(expected[i]));
    expect_near(what, unpacked_half(p.dtype, got[i]), expected[i], tolerance);
  }
}

void run_backward(const Problem& p) {
  Case c(p);
  std::vector<double> weights, dq(c.q.values.size()), dk(c.k.values.size()), dv(dk.size());
  std::vector<float> lse, deltas;
  for (int64_t row = 0; row < p.batches * p.heads * p.queries; ++row) {
    const int64_t i = row % p.queries, head = row / p.queries % p.heads;
    const int64_t batch = row / p.queries / p.heads, shared = head * p.kv_heads / p.heads;
    const size_t q = c.q.at(batch, head, i);
    lse.push_back(static_cast<float>(weights_of(c, p, batch, head, i, weights)));
    std::vector<double> slopes(weights.size());
    double delta = 0;
    for (size_t j = 0; j < weights.size(); ++j) {
      const size_t k = c.k.at(batch, shared, static_cast<int64_t>(j));
      slopes[j] = dot(&c.dout.values[q], &c.v.values[k], p.width);
      delta += weights[j] * slopes[j];
    }
    deltas.push_back(static_cast<float>(delta));
    for (size_t j = 0; j < weights.size(); ++j) {
      const size_t k = c.k.at(batch, shared, static_cast<int64_t>(j));
      const double slope = c.a.scale * weights[j] * (slopes[j] - delta);
      add_scaled(&dq[q], slope, &c.k.values[k], p.width);
      add_scaled(&dk[k], slope, &c.q.values[q], p.width);
      add_scaled(&dv[k], weights[j], &c.dout.values[q], p.width);
    }
  }
  c.lse.write(*c.stream, lse);
  c.delta.write(*c.stream, deltas);
  EXPECT(launch_attention_wgmma_backward(*c.stream, p.dtype, c.a));
  expect_rows("dq", c, p, c.dq, dq);
  expect_rows("dk", c, p, c.dk, dk);
  expect_rows("dv", c, p, c.dv, dv);
}

// Each seed has a part of a case's problems, in turn.
template <class F>
void in_turns(size_t parts, std::initializer_list<Problem> problems, F run) {
  size_t turn = 0;
  for (const Problem& problem : problems) {
    if (turn++ % parts == emulation::seed() % parts) run(problem);
  }
}

}  // namespace

CASE(attention_wgmma_forward) {
  in_turns(8,
           {
               {DType::bfloat16, 1, 1, 64},
               {DType::float16, 17, 65, 32},
               {DType::bfloat16, 64, 129, 128},
               {DType::float16, 65, 128, 96},
               {DType::bfloat16, 129, 300, 24, false, 1, 2, 1},
               {DType::float16, 200, 17, 72, false, 2},
               {DType::bfloat16, 193, 385, 64, false},
               {DType::float16, 385, 513, 32, false},
               {DType::bfloat16, 130, 257, 128, false},
               {DType::float16, 64, 400, 88, false, 2, 2, 2},
               // More tiles of queries than multiprocessors, and several sections of heads.
               {DType::bfloat16, 200, 150, 64, false, 2, 4, 2},
               {DType::float16, 70, 600, 128, false, 3, 2, 1},
           },
           run_forward);
}

CASE(attention_wgmma_forward_causal) {
  in_turns(8,
           {
               {DType::bfloat16, 1, 200, 64, true},
               {DType::float16, 17, 17, 32, true},
               {DType::bfloat16, 65, 64, 128, true},
               {DType::float16, 200, 129, 96, true},
               {DType::bfloat16, 400, 400, 64, true},
               {DType::float16, 257, 300, 128, true, 1, 2, 1},
               {DType::bfloat16, 385, 200, 32, true},
               {DType::float16, 129, 700, 64, true},
               {DType::bfloat16, 300, 300, 80, true, 2},
               {DType::float16, 192, 192, 64, true, 1, 4, 2},
               {DType::float16, 400, 600, 64, true, 2, 4, 2},
               {DType::bfloat16, 300, 200, 128, true, 1, 4, 4},
           },
           run_forward);
}

CASE(attention_wgmma_backward) {
  in_turns(8,
           {
               {DType::bfloat16, 1, 1, 64},
               {DType::float16, 17, 65, 32},
               {DType::bfloat16, 64, 129, 128},
               {DType::float16, 65, 128, 96},
               {DType::bfloat16, 129, 200, 24, false, 1, 2, 1},
               {DType::float16, 200, 17, 72, false, 2},
               {DType::bfloat16, 300, 130, 64},
               {DType::float16, 129, 390, 32},
               {DType::bfloat16, 200, 300, 128},
               {DType::float16, 64, 200, 88, false, 2, 2, 2},
           },
           run_backward);
}

CASE(attention_wgmma_backward_causal) {
  in_turns(8,
           {
               {DType::bfloat16, 1, 200, 64, true},
               {DType::float16, 17, 17, 32, true},
               {DType::bfloat16, 65, 64, 128, true},
               {DType::float16, 200, 129, 96, true},
               {DType::bfloat16, 300, 300, 64, true},
               {DType::float16, 257, 200, 128, true, 1, 2, 1},
               {DType::bfloat16, 385, 100, 32, true},
               {DType::float16, 129, 500, 64, true},
               {DType::bfloat16, 200, 200, 80, true, 2},
               {DType::float16, 192, 192, 64, true, 1, 4, 2},
           },
           run_backward);
}

// No memory lies behind the tile in which the keys end: a kernel that walks on is found out.
CASE(attention_reads_no_tiles_behind_lengths) {
  const Problem problem = {DType::bfloat16, 70, 256, 64, emulation::seed() % 2 == 1};
  const int64_t keys = 700, length = 130;
  Problem whole = problem;
  whole.keys = keys;
  Case c(problem);
  const Rows dk(*c.stream, whole, 1, keys, 7), dv(*c.stream, whole, 1, keys, 8);
  Buffer<int32_t> lengths(1);
  lengths.write(*c.stream, {static_cast<int32_t>(length)});
  c.a.keys = keys;
  c.a.lengths = lengths.data();
  c.a.dk = dk.operand();
  c.a.dv = dv.operand();
  const bool warpgroups = emulation::seed() / 2 % 2 == 1;
  if (warpgroups) {
    EXPECT(launch_attention_wgmma_forward(*c.stream, problem.dtype, c.a));
  } else {
    launch_attention_mma_forward(*c.stream, problem.dtype, c.a);
  }
  c.delta.write(*c.stream, std::vector<float>(static_cast<size_t>(problem.queries), 0.5f));
  if (warpgroups) {
    EXPECT(launch_attention_wgmma_backward(*c.stream, problem.dtype, c.a));
  } else {
    launch_attention_mma_backward(*c.stream, problem.dtype, c.a);
  }
  for (const Rows* rows : {&dk, &dv}) {
    const auto bits = rows->data.read(*c.stream);
    const auto behind = bits.begin() + static_cast<ptrdiff_t>(length * problem.width);
    EXPECT(std::any_of(bits.begin(), behind, [](uint16_t x) { return x != 0; }));
    EXPECT(std::all_of(behind, bits.end(), [](uint16_t x) { return x == 0; }));
  }
}

CASE(attention_wgmma_refuses) {
  const auto refused = [](const Problem& p, DType dtype) {
    Case c(p);
    const bool both = !launch_attention_wgmma_forward(*c.stream, dtype, c.a) &&
                      !launch_attention_wgmma_backward(*c.stream, dtype, c.a);
    return both;
  };
  EXPECT(refused({DType::bfloat16, 4, 4, 36}, DType::bfloat16));   // rows of 72 bytes
  EXPECT(refused({DType::bfloat16, 4, 4, 136}, DType::bfloat16));  // too wide
  EXPECT(refused({DType::bfloat16, 4, 4, 64}, DType::float32));
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
