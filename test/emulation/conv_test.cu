// Convolutions by warpgroups (conv_wgmma.cu, conv_wgmma_weight.cu) and both their gradients, with
// every shape of tile, type and end, at sizes with tails and with several tiles, stages, images,
// groups and slices, against sums in float64.
#include <cmath>

#include "conv_mma.h"
#include "gemm_wgmma.h"
#include "harness.h"
#include "values.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;

namespace {

struct Convolution {
  DType dtype;
  ConvMode mode;
  int64_t n, h, w, c, o, kh, kw;
  int64_t pad_h = 0, pad_w = 0, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;
  bool ends = false;  // bias and ReLU
};

ConvShape shape_of(const Convolution& q) {
  ConvShape s{};
  s.n = q.n;
  s.c = q.c;
  s.h = q.h;
  s.w = q.w;
  s.o = q.o;
  s.kh = q.kh;
  s.kw = q.kw;
  s.groups = q.groups;
  s.stride_h = q.stride_h;
  s.stride_w = q.stride_w;
  s.pad_h = q.pad_h;
  s.pad_w = q.pad_w;
  s.dilation_h = q.dilation_h;
  s.dilation_w = q.dilation_w;
  s.oh = (q.h + 2 * q.pad_h - (q.kh - 1) * q.dilation_h - 1) / q.stride_h + 1;
  s.ow = (q.w + 2 * q.pad_w - (q.kw - 1) * q.dilation_w - 1) / q.stride_w + 1;
  s.dtype = q.dtype;
  s.channels_last = true;
  s.precision = Precision::high;
  return s;
}

ConvProblem problem_of(const Convolution& q) {
  const bool data = q.mode == ConvMode::data, weight = q.mode == ConvMode::weight;
  ConvProblem p{};
  p.s = shape_of(q);
  const ConvShape& s = p.s;
  p.in_channels = s.c / s.groups;
  p.out_channels = s.o / s.groups;
  p.rows = data ? p.in_channels : p.out_channels;
  p.plane_h = data ? s.h : s.oh;
  p.plane_w = data ? s.w : s.ow;
  p.columns = s.n * p.plane_h * p.plane_w;
  p.k = conv_channels(q.mode, p) * s.kh * s.kw;
  if (weight) std::swap(p.columns, p.k);
  p.x = {1, s.w * s.c, s.c};
  p.y = {1, s.ow * s.o, s.o};
  p.down = p.across = {0, 1, 0, 1};
  p.weight_w = s.kw;
  p.weight_plane = s.kh * s.kw;
  p.taps = make_divider(s.kh * s.kw);
  p.kernel_w = make_divider(s.kw);
  p.positions = make_divider(p.plane_h * p.plane_w);
  p.row = make_divider(p.plane_w);
  p.narrow = true;
  return p;
}

struct Values {
  std::vector<float> x, w, y;  // x and y: the images
};

// Host code here is compiled with the checks of kernels, which would take most of the time.
NODEGRAD_UNCHECKED std::vector<double> expected_of(const ConvProblem& p, ConvMode mode,
                                                   const Values& values) {
  const ConvShape& s = p.s;
  const float *const x = values.x.data(), *const w = values.w.data(), *const y = values.y.data();
  const size_t size = mode == ConvMode::forward ? values.y.size()
                      : mode == ConvMode::data  ? values.x.size()
                                                : values.w.size();
  std::vector<double> sums(size);
  double* const to = sums.data();
  for (int64_t place = 0; place < s.n * s.oh * s.ow; ++place) {
    const int64_t n = place / s.oh / s.ow, i = place / s.ow % s.oh, j = place % s.ow;
    for (int64_t tap = 0; tap < s.kh * s.kw; ++tap) {
      const int64_t row = i * s.stride_h + tap / s.kw * s.dilation_h - s.pad_h;
      const int64_t column = j * s.stride_w + tap % s.kw * s.dilation_w - s.pad_w;
      if (row < 0 || row >= s.h || column < 0 || column >= s.w) continue;
      for (int64_t o = 0; o < s.o; ++o) {
        const int64_t out = place * s.o + o;
        const int64_t in =
            ((n * s.h + row) * s.w + column) * s.c + o / p.out_channels * p.in_channels;
        const int64_t weight = o * p.in_channels * s.kh * s.kw + tap;
        for (int64_t c = 0; c < p.in_channels; ++c) {
          const int64_t at = weight + c * s.kh * s.kw;
          if (mode == ConvMode::forward) {
            to[out] += double{w[at]} * x[in + c];
          } else if (mode == ConvMode::data) {
            to[in + c] += double{w[at]} * y[out];
          } else {
            to[at] += double{y[out]} * x[in + c];
          }
        }
      }
    }
  }
  return sums;
}

void run_whole(const Convolution& q, const WgmmaPlan& plan) {
  auto stream = harness::hopper().make_stream();
  ConvProblem p = problem_of(q);
  const auto filled = [](int64_t count, size_t salt) {
    std::vector<float> values(static_cast<size_t>(count));
    for (size_t i = 0; i < values.size(); ++i) values[i] = value_of(i, salt);
    return values;
  };
  const ConvShape& s = p.s;
  const Values values{filled(s.n * s.h * s.w * s.c, 1),
                      filled(s.o * p.in_channels * s.kh * s.kw, 2),
                      filled(s.n * s.oh * s.ow * s.o, 3)};
  const auto biasv = filled(p.rows * s.groups, 4);
  const auto expected = expected_of(p, q.mode, values);
  const bool data = q.mode == ConvMode::data, weight = q.mode == ConvMode::weight;
  const auto& leftv = weight ? values.y : values.w;
  const auto& rightv = data ? values.y : values.x;
  const size_t item = bytes_of(q.dtype);
  Buffer<unsigned char> left(leftv.size() * item), right(rightv.size() * item),
      bias(biasv.size() * item), out(expected.size() * item);
  left.write(*stream, packed(q.dtype, leftv));
  right.write(*stream, packed(q.dtype, rightv));
  bias.write(*stream, packed(q.dtype, biasv));
  p.left = left.data();
  p.right = right.data();
  p.out = out.data();
  p.bias = q.ends ? bias.data() : nullptr;
  p.relu = q.ends;
  EXPECT(launch_conv_wgmma(*stream, q.mode, p, &plan));
  const auto got = out.read(*stream);
  for (size_t i = 0; i < expected.size(); ++i) {
    double sum = expected[i];
    if (q.ends) sum = std::max(0.0, sum + biasv[i % biasv.size()]);
    const float actual = unpacked(q.dtype, &got[i * item]);
    if (!(std::fabs(actual - sum) <= unit_of(q.dtype) * (std::fabs(sum) + 1))) {
      harness::fail_case("element " + std::to_string(i) + ": " + std::to_string(actual) +
                         ", expected " + std::to_string(sum));
    }
  }
}

// Each seed has a fourth of a case's convolutions, in turn.
void run(const Convolution& q, const WgmmaPlan& plan) {
  static uint64_t seed = 0, turn = 0;
  turn = seed == emulation::seed() ? turn + 1 : 0;
  seed = emulation::seed();
  if (turn % 4 == seed % 4) run_whole(q, plan);
}

constexpr WgmmaPlan kNarrow{128, 64, 1, 1}, kPair{128, 128, 2, 1}, kThirds{128, 192, 1, 1},
    kWide{128, 256, 2, 1};
constexpr ConvMode kForward = ConvMode::forward, kData = ConvMode::data, kWeight = ConvMode::weight;
constexpr DType kBfloat = DType::bfloat16, kHalf = DType::float16, kFloat = DType::float32;

}  // namespace

CASE(conv_wgmma_tails) {
  run({kBfloat, kForward, 2, 9, 11, 104, 136, 3, 3, 1, 1}, kNarrow);
  run({kHalf, kData, 2, 9, 11, 136, 56, 3, 2, 1, 1}, kPair);
  run({kBfloat, kForward, 3, 7, 9, 8, 24, 2, 5, 1, 3}, kThirds);
  run({kBfloat, kData, 1, 12, 13, 200, 40, 2, 2}, kWide);
}

CASE(conv_wgmma_windows) {
  run({kHalf, kForward, 2, 15, 12, 24, 40, 3, 2, 0, 3, 3, 1, 1, 4}, kPair);
  run({kBfloat, kForward, 2, 17, 19, 64, 8, 3, 3, 1, 1, 2, 2}, kNarrow);
  run({kBfloat, kData, 2, 10, 9, 16, 64, 3, 4, 3, 2, 1, 1, 2, 3}, kNarrow);
  run({kHalf, kForward, 1, 4, 5, 136, 16, 1, 1, 5, 6}, kNarrow);
}

// Channels that end in the half of a line of 128 bytes come in lines of 64, two a stage.
CASE(conv_wgmma_halves) {
  run({kBfloat, kForward, 2, 9, 11, 32, 72, 3, 3, 1, 1}, kPair);
  run({kHalf, kData, 2, 10, 9, 16, 88, 2, 2, 1, 0}, kNarrow);
  run({kFloat, kForward, 2, 9, 8, 96, 40, 1, 3, 0, 1, 1, 1, 1, 1, 2, true}, kThirds);
  run({kBfloat, kForward, 1, 13, 12, 160, 24, 1, 1}, kWide);
  run({kHalf, kWeight, 2, 9, 11, 32, 72, 3, 3, 1, 1}, WgmmaPlan{128, 256, 1, 2});
  run({kBfloat, kWeight, 2, 9, 11, 88, 40, 1, 2, 0, 1, 2, 1}, WgmmaPlan{64, 128, 1, 2});
  run({kBfloat, kWeight, 2, 8, 8, 64, 48, 2, 2, 0, 0, 1, 1, 1, 1, 2}, WgmmaPlan{64, 192, 1, 1});
  run({kFloat, kData, 1, 12, 14, 20, 16, 3, 1, 1, 0}, kNarrow);
}

CASE(conv_wgmma_groups) {
  run({kBfloat, kForward, 2, 8, 9, 128, 48, 3, 1, 1, 0, 2, 1, 1, 1, 2}, kNarrow);
  run({kBfloat, kData, 2, 8, 9, 48, 192, 1, 3, 0, 1, 1, 1, 1, 1, 3, true}, kNarrow);
  run({kFloat, kForward, 2, 8, 9, 64, 20, 2, 2, 0, 0, 1, 1, 1, 1, 2, true}, kPair);
  run({kFloat, kData, 2, 5, 14, 20, 64, 2, 2, 0, 0, 1, 1, 1, 1, 2}, kNarrow);
}

// Outputs that allow no wide stores, and more tiles than blocks.
CASE(conv_wgmma_ends) {
  run({kBfloat, kForward, 2, 9, 9, 56, 133, 1, 1, 0, 0, 1, 1, 1, 1, 1, true}, kPair);
  run({kHalf, kData, 1, 12, 12, 9, 40, 3, 3, 1, 1, 1, 1, 1, 1, 1, true}, kNarrow);
  run({kFloat, kForward, 2, 9, 10, 28, 70, 1, 2, 0, 1, 1, 1, 1, 1, 1, true}, kNarrow);
  run({kBfloat, kForward, 3, 16, 15, 16, 130, 1, 2, 0, 1, 1, 1, 1, 1, 1, true}, kNarrow);
}

CASE(conv_wgmma_weights) {
  run({kBfloat, kWeight, 2, 9, 11, 104, 136, 3, 3, 1, 1}, WgmmaPlan{128, 192, 1, 2});
  run({kHalf, kWeight, 3, 8, 9, 128, 40, 2, 1, 0, 0, 2, 1}, WgmmaPlan{64, 128, 1, 3});
  run({kBfloat, kWeight, 2, 10, 9, 48, 96, 1, 4, 0, 3, 1, 2, 1, 2, 3}, WgmmaPlan{64, 256, 1, 1});
  run({kHalf, kWeight, 1, 17, 12, 200, 16, 2, 2, 3, 1, 3, 1, 4, 1}, WgmmaPlan{128, 128, 1, 9});
  run({kHalf, kWeight, 1, 3, 5, 8, 264, 1, 1}, WgmmaPlan{64, 192, 1, 1});
  run({kBfloat, kWeight, 1, 12, 11, 64, 64, 3, 3, 1, 1}, WgmmaPlan{128, 256, 1, 8});
  run({kBfloat, kWeight, 3, 5, 5, 16, 16, 5, 5, 2, 2, 1, 1, 1, 1, 2}, WgmmaPlan{64, 128, 1, 2});
  run({kHalf, kWeight, 2, 16, 16, 64, 64, 1, 2, 0, 1, 1, 1, 1, 1, 2}, WgmmaPlan{128, 192, 1, 4});
}

CASE(conv_wgmma_refuses) {
  auto stream = harness::hopper().make_stream();
  const Convolution right{kBfloat, kForward, 2, 16, 16, 64, 64, 1, 2, 0, 1};
  Buffer<uint16_t> x(2 * 16 * 16 * 64), w(64 * 64 * 2), y(2 * 16 * 17 * 64);
  const auto takes = [&](auto change, auto change_problem) {
    Convolution q = right;
    change(q);
    ConvProblem p = problem_of(q);
    p.left = w.data();
    p.right = x.data();
    p.out = y.data();
    change_problem(p);
    return launch_conv_wgmma(*stream, q.mode, p);
  };
  const auto same = [](ConvProblem&) {};
  EXPECT(takes([](Convolution&) {}, same));
  EXPECT(takes([](Convolution& q) { q.mode = kWeight; },
               [&](ConvProblem& p) {
                 p.left = y.data();
                 p.out = w.data();
               }));
  EXPECT(!takes([](Convolution& q) { q.mode = kWeight, q.dtype = kFloat; }, same));
  EXPECT(!takes([](Convolution& q) { q.c = 16; }, same));                // half a line of channels
  EXPECT(!takes([](Convolution& q) { q.c = 36; }, same));                // no multiple of 16 bytes
  EXPECT(!takes([](Convolution& q) { q.n = 1, q.h = 4; }, same));        // one tile
  EXPECT(!takes([](Convolution& q) { q.c = 96, q.groups = 2; }, same));  // lines reach beyond
  EXPECT(!takes([](Convolution& q) { q.stride_h = 9; }, same));
  EXPECT(!takes([](Convolution& q) { q.pad_h = 129; }, same));
  EXPECT(!takes([](Convolution& q) { q.kw = 3, q.pad_w = q.dilation_w = 128; }, same));
  EXPECT(!takes([](Convolution&) {}, [](ConvProblem& p) { p.y.channel = 2; }));
  EXPECT(!takes([](Convolution&) {}, [&](ConvProblem& p) { p.right = x.data() + 1; }));
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
