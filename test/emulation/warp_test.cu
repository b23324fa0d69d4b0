// Warp exchanges: shuffles, votes, matches and gathers against their definitions, and masks that
// are wrong.
#include <algorithm>

#include "harness.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

constexpr unsigned kAll = 0xffffffffu;

__global__ void shuffles_kernel(int* y) {
  const int t = static_cast<int>(threadIdx.x);
  const int v = 100 + t;
  y[t] = __shfl_sync(kAll, v, 7);
  y[64 + t] = __shfl_xor_sync(kAll, v, 5);
  y[128 + t] = __shfl_down_sync(kAll, v, 3);
  y[192 + t] = __shfl_up_sync(kAll, v, 4);
  y[256 + t] = __shfl_sync(kAll, v, 9, 8);
  y[320 + t] = __shfl_down_sync(kAll, v, 3, 16);
  y[384 + t] = static_cast<int>(__shfl_xor_sync(kAll, 1.5 * t, 1) * 2.0);
}

CASE(shuffles) {
  auto stream = harness::make_stream();
  Buffer<int> y(448);
  launch(*stream, "shuffles", shuffles_kernel, 1, 64, 0, y.data());
  const std::vector<int> r = y.read(*stream);
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32, first = t - lane;
    const auto at = [&](int row) { return r[static_cast<size_t>(row * 64 + t)]; };
    EXPECT(at(0) == 100 + first + 7);
    EXPECT(at(1) == 100 + (t ^ 5));
    EXPECT(at(2) == 100 + (lane + 3 < 32 ? t + 3 : t));
    EXPECT(at(3) == 100 + (lane >= 4 ? t - 4 : t));
    EXPECT(at(4) == 100 + (t & ~7) + 1);
    EXPECT(at(5) == 100 + (lane % 16 + 3 < 16 ? t + 3 : t));
    EXPECT(at(6) == 3 * (t ^ 1));
  }
}

__global__ void votes_kernel(unsigned* y) {
  const unsigned t = threadIdx.x;
  y[t] = __ballot_sync(kAll, t % 3 == 0);
  y[32 + t] = static_cast<unsigned>(__any_sync(kAll, t == 31));
  y[64 + t] = static_cast<unsigned>(__all_sync(kAll, t < 31));
  y[96 + t] = __match_any_sync(kAll, t / 8);
}

CASE(votes) {
  auto stream = harness::make_stream();
  Buffer<unsigned> y(128);
  launch(*stream, "votes", votes_kernel, 1, 32, 0, y.data());
  const std::vector<unsigned> r = y.read(*stream);
  for (unsigned t = 0; t < 32; ++t) {
    EXPECT(r[t] == 0x49249249u);
    EXPECT(r[32 + t] == 1 && r[64 + t] == 0);
    EXPECT(r[96 + t] == 0xffu << (t / 8 * 8));
  }
}

__global__ void gather_kernel(int* y) {
  struct Record {
    short lane;
    int square;
  };
  const int t = static_cast<int>(threadIdx.x);
  Record all[32];
  const Record mine{static_cast<short>(t), t * t};
  emulation::warp_gather(&mine, sizeof(mine), all);
  int sum = 0;
  for (int i = 0; i < 32; ++i) sum += all[i].lane * 1000 + all[i].square;
  y[t] = sum;
}

CASE(gather) {
  auto stream = harness::make_stream();
  Buffer<int> y(32);
  launch(*stream, "gather", gather_kernel, 1, 32, 0, y.data());
  for (int value : y.read(*stream)) EXPECT(value == 31 * 16 * 1000 + 31 * 32 * 63 / 6);
}

// Halves of a warp may exchange apart.
__global__ void halves_kernel(int* y) {
  const int t = static_cast<int>(threadIdx.x);
  int v = t;
  if (t < 16) {
    for (int m = 8; m > 0; m /= 2) v += __shfl_xor_sync(0x0000ffffu, v, m);
  } else {
    for (int m = 8; m > 0; m /= 2) v += __shfl_xor_sync(0xffff0000u, v, m);
  }
  __syncwarp();
  y[t] = v;
}

CASE(halves_of_a_warp) {
  auto stream = harness::make_stream();
  Buffer<int> y(32);
  launch(*stream, "halves", halves_kernel, 1, 32, 0, y.data());
  const std::vector<int> r = y.read(*stream);
  for (size_t t = 0; t < 32; ++t) EXPECT(r[t] == (t < 16 ? 120 : 376));
}

enum class Fault { not_in_mask, lane_exits, different_masks, different_places, waits_elsewhere };
template <Fault kFault>
__global__ void faulty_kernel(int* y) {
  const int t = static_cast<int>(threadIdx.x);
  int v = t;
  if (kFault == Fault::not_in_mask) v = __shfl_xor_sync(0x0000ffffu, v, 1);
  if (kFault == Fault::lane_exits) {
    if (t == 13) return;
    v = __shfl_xor_sync(kAll, v, 1);
  }
  if (kFault == Fault::different_masks) v = __shfl_sync(t < 31 ? kAll : kAll >> 1 | 1u << 31, v, 0);
  if (kFault == Fault::different_masks) v = __shfl_sync(t % 2 ? kAll : kAll & ~2u, v, 0);
  if (kFault == Fault::different_places) {
    if (t < 20) {
      v = __shfl_sync(kAll, v, 0);
    } else {
      v = __shfl_sync(kAll, v, 1);
    }
  }
  if (kFault == Fault::waits_elsewhere) {
    if (t < 20) {
      v = __shfl_sync(kAll, v, 0);
    } else {
      __syncthreads();
    }
  }
  y[t] = v;
}

template <Fault kFault>
void run_faulty() {
  auto stream = harness::make_stream();
  Buffer<int> y(32);
  launch(*stream, "faulty", faulty_kernel<kFault>, 1, 32, 0, y.data());
  stream->synchronize();
}

CASE(lane_not_in_its_mask) {
  expect_error(run_faulty<Fault::not_in_mask>, "is not in its own mask");
}
CASE(named_lane_exits) { expect_error(run_faulty<Fault::lane_exits>, "1 have exited"); }
CASE(lanes_name_different_masks) {
  expect_error(run_faulty<Fault::different_masks>, "names mask 0x");
}
CASE(lanes_at_different_places) {
  expect_error(run_faulty<Fault::different_places>, "waits at another one");
}
CASE(lane_waits_elsewhere) { expect_error(run_faulty<Fault::waits_elsewhere>, "wait elsewhere"); }

__global__ void atomics_kernel(int* y, unsigned long long* big) {
  atomicAdd(&y[0], 2);
  atomicMax(&y[1], static_cast<int>(threadIdx.x));
  atomicMin(&y[2], -static_cast<int>(blockIdx.x));
  atomicAdd(big, 1ull << 33);
}

CASE(integer_atomics) {
  auto stream = harness::make_stream();
  Buffer<int> y(3);
  Buffer<unsigned long long> big(1);
  y.write(*stream, {0, 0, 0});
  big.write(*stream, {0});
  launch(*stream, "atomics", atomics_kernel, 5, 64, 0, y.data(), big.data());
  EXPECT(y.read(*stream) == (std::vector<int>{640, 63, -4}));
  EXPECT(big.read(*stream)[0] == 320ull << 33);
}

// The 16-bit types: every half survives the round trip; floats round to nearest even.
__global__ void halves_kernel(const uint16_t* x, uint16_t* y) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = from_float<Float16>(to_float(Float16{x[i]})).bits;
}
__global__ void rounding_kernel(const float* x, uint16_t* half, uint16_t* bfloat) {
  half[threadIdx.x] = from_float<Float16>(x[threadIdx.x]).bits;
  bfloat[threadIdx.x] = from_float<BFloat16>(x[threadIdx.x]).bits;
}

CASE(half_conversions) {
  auto stream = harness::make_stream();
  Buffer<uint16_t> x(65536), y(65536);
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  x.write(*stream, all);
  const auto kernel = static_cast<void (*)(const uint16_t*, uint16_t*)>(halves_kernel);
  launch(*stream, "halves", kernel, 256, 256, 0, x.data(), y.data());
  const std::vector<uint16_t> r = y.read(*stream);
  for (size_t i = 0; i < r.size(); ++i) {
    const bool nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0;
    EXPECT(r[i] == (nan ? 0x7fff : i));
  }
  const std::vector<float> values = {1.0f,         65519.9f,    65520.0f,    2049.0f,
                                     2051.0f,      -0x1p-24f,   0x1p-25f,    0x1.8p-24f,
                                     0x1.ffep-15f, 1.00390625f, 1.01171875f, 3.4e38f};
  const std::vector<uint16_t> half = {0x3c00, 0x7bff, 0x7c00, 0x6800, 0x6802, 0x8001,
                                      0x0000, 0x0002, 0x0400, 0x3c04, 0x3c0c, 0x7c00};
  const std::vector<uint16_t> bfloat = {0x3f80, 0x4780, 0x4780, 0x4500, 0x4500, 0xb380,
                                        0x3300, 0x33c0, 0x3880, 0x3f80, 0x3f82, 0x7f80};
  Buffer<float> f(values.size());
  Buffer<uint16_t> h(values.size()), b(values.size());
  f.write(*stream, values);
  launch(*stream, "rounding", rounding_kernel, 1, static_cast<unsigned>(values.size()), 0, f.data(),
         h.data(), b.data());
  EXPECT(h.read(*stream) == half);
  EXPECT(b.read(*stream) == bfloat);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
