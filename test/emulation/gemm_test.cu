// Products by warpgroups (gemm_wgmma.cu) with every shape of tile, layout, type and end, at sizes
// with tails and with several tiles, stages and clusters, against sums in float64.
#include <cmath>

#include "core/error.h"
#include "gemm_wgmma.h"
#include "harness.h"
#include "values.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;

namespace {

struct Problem {
  DType dtype;
  int64_t m, n, k;
  bool a_transposed, b_transposed;
  int64_t batch = 1;
  bool bias = false, accumulate = false, repeat_b = false;
  Activation activation = Activation::none;
  bool residual = false, before = false;
  double scale = 1;
  bool sums = false;  // of A's rows
  int64_t gap = 1;    // between the rows of C; with 8 they are aligned
};

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
      return activation == Activation::relu && x < 0 ? 0 : x;
  }
}

// Lines of operands start at multiples of 16 bytes, as tensor copies need.
int64_t padded(DType dtype, int64_t count) {
  const int64_t per = 16 / static_cast<int64_t>(bytes_of(dtype));
  return (count + per - 1) / per * per;
}

// Host code here is compiled with the checks of kernels, which would take most of the time.
NODEGRAD_UNCHECKED double dot(const float* a, int64_t a_step, const float* b, int64_t b_step,
                              int64_t count) {
  double sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += double{a[k * a_step]} * b[k * b_step];
  return sum;
}

void run(const Problem& q, const WgmmaPlan* plan) {
  auto stream = harness::hopper().make_stream();
  const int64_t a_ld = padded(q.dtype, q.a_transposed ? q.m : q.k);
  const int64_t b_ld = padded(q.dtype, q.b_transposed ? q.k : q.n);
  const int64_t a_step = a_ld * (q.a_transposed ? q.k : q.m);
  const int64_t b_size = b_ld * (q.b_transposed ? q.n : q.k), b_step = q.repeat_b ? 0 : b_size;
  const int64_t c_ld = q.n + q.gap, c_step = q.m * c_ld;
  const auto filled = [](int64_t count, size_t salt) {
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = value_of(i, salt);
    return values;
  };
  const auto av = filled(a_step * q.batch, 1);
  const auto bv = filled(b_size * (q.repeat_b ? 1 : q.batch), 2);
  const auto cv = filled(c_step * q.batch, 3), biasv = filled(q.n, 4);
  const auto upload = [&](Buffer<unsigned char>& to, const std::vector<float>& values) {
    to.write(*stream, packed(q.dtype, values));
  };
  const size_t item = bytes_of(q.dtype);
  const auto rv = filled(c_step * q.batch, 5), sumsv = filled(q.m, 6);
  Buffer<unsigned char> a(av.size() * item), b(bv.size() * item), c(cv.size() * item),
      bias(biasv.size() * item), residual(rv.size() * item), before(cv.size() * item),
      sums(sumsv.size() * item);
  upload(a, av);
  upload(b, bv);
  upload(c, cv);
  upload(bias, biasv);
  upload(residual, rv);
  upload(before, cv);
  upload(sums, sumsv);

  GemmArgs args{};
  args.a = a.data();
  args.b = b.data();
  args.c = c.data();
  args.bias = q.bias ? bias.data() : nullptr;
  args.m = q.m;
  args.n = q.n;
  args.k = q.k;
  args.batch = q.batch;
  args.a_row = q.a_transposed ? 1 : a_ld;
  args.a_col = q.a_transposed ? a_ld : 1;
  args.b_row = q.b_transposed ? 1 : b_ld;
  args.b_col = q.b_transposed ? b_ld : 1;
  args.c_row = c_ld;
  args.a_batch = a_step;
  args.b_batch = b_step;
  args.c_batch = c_step;
  args.dtype = q.dtype;
  args.activation = q.activation;
  args.residual = q.residual ? residual.data() : nullptr;
  args.before = q.before ? before.data() : nullptr;
  args.a_sums = q.sums ? sums.data() : nullptr;
  args.scale = q.scale;
  args.accumulate = q.accumulate;
  args.precision = Precision::high;
  args.library = MatmulBackend::own;
  EXPECT(launch_gemm_wgmma(*stream, args, plan));
  const auto got = c.read(*stream), kept = before.read(*stream);

  const double unit = unit_of(q.dtype);
  const auto added = sums.read(*stream);
  constexpr float kOne = 1;
  for (int64_t i = 0; i < q.m && q.sums; ++i) {
    const float old = sumsv[static_cast<size_t>(i)];
    const double sum =
        (q.accumulate ? old : 0) + dot(&av[static_cast<size_t>(i)], a_ld, &kOne, 0, q.k);
    const float actual = unpacked(q.dtype, &added[static_cast<size_t>(i) * item]);
    EXPECT(std::fabs(actual - sum) <= unit * (std::fabs(sum) + 1));
  }
  for (int64_t z = 0; z < q.batch; ++z) {
    for (int64_t i = 0; i < q.m; ++i) {
      for (int64_t j = 0; j < c_ld; ++j) {
        const size_t at = static_cast<size_t>(z * c_step + i * c_ld + j);
        const float actual = unpacked(q.dtype, &got[at * item]);
        if (j >= q.n) {
          EXPECT(actual == cv[at]);  // beyond the row's end nothing is written
          continue;
        }
        double sum = q.accumulate ? cv[at] : q.bias ? biasv[static_cast<size_t>(j)] : 0;
        sum += q.scale * dot(&av[static_cast<size_t>(z * a_step + (q.a_transposed ? i : i * a_ld))],
                             q.a_transposed ? a_ld : 1,
                             &bv[static_cast<size_t>(z * b_step + (q.b_transposed ? j * b_ld : j))],
                             q.b_transposed ? 1 : b_ld, q.k);
        if (q.before) {
          EXPECT(std::fabs(unpacked(q.dtype, &kept[at * item]) - sum) <=
                 unit * (std::fabs(sum) + 1));
        }
        sum = activated(q.activation, sum) + (q.residual ? rv[at] : 0);
        if (std::fabs(actual - sum) > unit * (std::fabs(sum) + 1)) {
          harness::fail_case("C(" + std::to_string(i) + "," + std::to_string(j) + ") of batch " +
                             std::to_string(z) + ": " + std::to_string(actual) + ", expected " +
                             std::to_string(sum));
        }
      }
    }
  }
}

// Each seed has a fourth of a case's problems, in turn.
void run(const Problem& q, WgmmaPlan plan) {
  static uint64_t seed = 0, turn = 0;
  turn = seed == emulation::seed() ? turn + 1 : 0;
  seed = emulation::seed();
  if (turn % 4 == seed % 4) run(q, &plan);
}

constexpr WgmmaPlan kWide{128, 256, 1, 1}, kPair{128, 256, 2, 1}, kThirds{128, 192, 2, 1},
    kSquare{128, 128, 2, 1}, kNarrow{128, 64, 2, 1}, kSmall{64, 128, 1, 1}, kSliced{64, 128, 1, 4};

}  // namespace

CASE(gemm_wgmma_layouts) {
  for (bool at : {false, true}) {
    for (bool bt : {false, true}) {
      for (const WgmmaPlan& plan : {kWide, kSmall}) {
        run({DType::bfloat16, 136, 264, 72, at, bt}, plan);
      }
    }
  }
}

CASE(gemm_wgmma_pairs) {
  run({DType::bfloat16, 257, 256, 136, false, true}, kPair);
  run({DType::bfloat16, 129, 200, 136, false, false}, kThirds);
  run({DType::float16, 140, 130, 136, true, true}, kThirds);
  run({DType::float16, 256, 130, 136, true, false}, kSquare);
  run({DType::bfloat16, 300, 65, 136, false, false}, kNarrow);
  run({DType::bfloat16, 100, 65, 136, false, true}, kNarrow);
}

// More tiles than blocks, and more stages than the ring has: blocks walk on.
CASE(gemm_wgmma_persistent) {
  run({DType::bfloat16, 270, 130, 600, false, true}, WgmmaPlan{128, 64, 2, 1});
  run({DType::bfloat16, 260, 330, 200, false, false}, WgmmaPlan{128, 64, 1, 1});
}

CASE(gemm_wgmma_slices) {
  run({DType::bfloat16, 32, 200, 600, false, true}, kSliced);
  run({DType::float16, 65, 129, 450, true, false}, kSliced);
  run({DType::bfloat16, 1, 128, 520, false, true}, WgmmaPlan{64, 128, 1, 8});
  for (bool at : {false, true}) {
    for (bool bt : {false, true}) run({DType::float32, 50, 37, 300, at, bt}, kSliced);
  }
  run({DType::float32, 37, 50, 600, false, false}, WgmmaPlan{64, 128, 1, 8});
}

CASE(gemm_wgmma_tf32) {
  for (bool at : {false, true}) {
    for (bool bt : {false, true}) {
      run({DType::float32, 130, 72, 70, at, bt}, kWide);
      run({DType::float32, 72, 130, 70, at, bt}, kThirds);
      run({DType::float32, 131, 33, 33, at, bt}, kSquare);
      run({DType::float32, 67, 40, 130, at, bt}, kSmall);
    }
  }
  Problem q{DType::float32, 40, 70, 70, false, false, 2};
  q.bias = q.residual = q.before = true;
  q.activation = Activation::gelu;
  for (const WgmmaPlan& plan : {kWide, kNarrow, kSmall, kSliced}) run(q, plan);
  q.bias = q.residual = q.before = false;
  q.activation = Activation::none;
  q.accumulate = q.repeat_b = true;
  for (const WgmmaPlan& plan : {kWide, kNarrow, kSmall, kSliced}) run(q, plan);
}

// Several stages more than the ring has, and several tiles for each block.
CASE(gemm_wgmma_tf32_persistent) {
  run({DType::float32, 130, 260, 270, false, false}, WgmmaPlan{128, 64, 1, 1});
  run({DType::float32, 260, 130, 270, true, true}, WgmmaPlan{128, 64, 2, 1});
}

CASE(gemm_wgmma_tf32_turns) {
  run({DType::float32, 9, 1540, 12, true, true}, kSquare);
  run({DType::float32, 1540, 12, 39, false, false}, kSmall);
  Problem q{DType::float32, 1536, 9, 20, false, false, 2};
  run(q, kWide);
  q.repeat_b = true;
  run(q, kSquare);
}

CASE(gemm_wgmma_ends) {
  Problem q{DType::bfloat16, 70, 136, 80, false, true};
  q.bias = true;
  run(q, kWide);
  q.activation = Activation::relu;
  run(q, kSmall);
  run(q, kSliced);
  q.residual = q.before = true;
  q.scale = 0.5;
  for (Activation activation : {Activation::gelu, Activation::gelu_tanh}) {
    q.activation = activation;
    for (const WgmmaPlan& plan : {kSmall, kPair, kSliced}) run(q, plan);
  }
  q.bias = q.residual = q.before = false;
  q.activation = Activation::none;
  q.accumulate = true;
  run(q, kPair);
  q.dtype = DType::float32;
  run(q, kWide);
}

// Rows of C that take 16 bytes at a time.
CASE(gemm_wgmma_plain) {
  Problem q{DType::bfloat16, 137, 136, 40, false, true};
  q.gap = 8;
  for (const WgmmaPlan& plan : {kWide, kThirds, kSquare, kNarrow}) run(q, plan);
  q.dtype = DType::float16;
  q.batch = 2;
  q.bias = true;
  q.activation = Activation::relu;
  q.scale = 0.5;
  for (const WgmmaPlan& plan : {kPair, kNarrow, kSmall, kSliced}) run(q, plan);
  q.n = 40;
  q.bias = false;
  q.scale = 1;
  for (const WgmmaPlan& plan : {kWide, kSquare, kNarrow, kSmall}) run(q, plan);
}

CASE(gemm_wgmma_row_sums) {
  Problem q{DType::bfloat16, 200, 72, 150, true, false};
  q.sums = true;
  for (const WgmmaPlan& plan : {kWide, kNarrow, kSmall, kSliced}) run(q, plan);
  q.dtype = DType::float16;
  q.accumulate = true;
  for (const WgmmaPlan& plan : {kThirds, WgmmaPlan{128, 64, 1, 1}, kSmall, kSliced}) run(q, plan);
}

CASE(gemm_wgmma_batches) {
  Problem q{DType::float16, 40, 72, 72, false, false, 3};
  run(q, kWide);
  q.repeat_b = true;
  run(q, kPair);
  run(q, kSliced);
}

CASE(gemm_wgmma_chooses) {
  run({DType::bfloat16, 64, 64, 64, false, true}, nullptr);
  run({DType::bfloat16, 8, 8, 8, true, true}, nullptr);
  run({DType::bfloat16, 33, 500, 640, false, true}, nullptr);
  const auto plan = [](int64_t m, int64_t n, int64_t k) {
    GemmArgs args{};
    args.m = m;
    args.n = n;
    args.k = k;
    args.batch = 1;
    args.dtype = DType::bfloat16;
    const WgmmaPlan p = choose_wgmma_plan(args, {{132, 66, 32, 15}});
    return std::vector<int>{p.bm, p.bn, p.cluster, p.slices};
  };
  EXPECT((plan(8192, 8192, 8192) == std::vector<int>{128, 256, 2, 1}));
  EXPECT((plan(64, 4096, 4096) == std::vector<int>{64, 128, 1, 4}));
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
