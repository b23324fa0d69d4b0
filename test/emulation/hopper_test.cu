// Clusters, mbarriers and warpgroup products of the emulated device: right kernels compute what the
// PTX ISA says, each forgotten fence, wait or byte count is caught.
#include "harness.h"
#include "wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

static std::unique_ptr<Stream> hopper_stream() { return harness::hopper().make_stream(); }

// --- clusters ---

constexpr int kRanks = 4;
struct Exchanged {
  float v[64];
};
enum class ClusterFault { none, no_barrier, exits_early };

// y[block][t] = the sum over the cluster's blocks of their value at t.
template <ClusterFault kFault>
__global__ void exchange_kernel(const float* x, float* y) {
  auto& s = shared_memory<Exchanged>();
  const int t = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  s.v[t] = x[block * 64 + t];
  if (kFault != ClusterFault::no_barrier) cluster_sync();
  float sum = 0;
  for (uint32_t rank = 0; rank < kRanks; ++rank) sum += *cluster_peer(&s.v[t], rank);
  if (kFault != ClusterFault::exits_early) cluster_sync();
  y[block * 64 + t] = sum;
}

template <ClusterFault kFault>
static void run_exchange() {
  auto stream = hopper_stream();
  Buffer<float> x(3 * kRanks * 64), y(3 * kRanks * 64);
  std::vector<float> values(3 * kRanks * 64), expected(values.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * i % 91);
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t rank = 0; rank < kRanks; ++rank) {
      expected[i] += values[(i / 64 / kRanks * kRanks + rank) * 64 + i % 64];
    }
  }
  x.write(*stream, values);
  launch_clusters(*stream, "exchange", exchange_kernel<kFault>, 3 * kRanks, 64, kRanks,
                  sizeof(Exchanged), x.data(), y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(cluster_exchange) { run_exchange<ClusterFault::none>(); }
CHECKED_CASE(cluster_without_barrier) {
  expect_error(run_exchange<ClusterFault::no_barrier>, "exchange: thread");
}
CASE(cluster_needs_sm_90) {
  auto stream = harness::make_stream();
  Buffer<float> x(kRanks * 64), y(kRanks * 64);
  expect_error(
      [&] {
        launch_clusters(*stream, "exchange", exchange_kernel<ClusterFault::none>, kRanks, 64,
                        kRanks, sizeof(Exchanged), x.data(), y.data());
      },
      "compute capability 9.0");
}

// A block that others still read must not exit: here block 0 reads late.
__global__ void exits_kernel(float* y) {
  auto& s = shared_memory<Exchanged>();
  s.v[threadIdx.x] = 1;
  cluster_sync();
  if (cluster_rank() != 0) return;
  for (int i = 0; i < 400; ++i) __nanosleep(1);
  y[threadIdx.x] = *cluster_peer(&s.v[threadIdx.x], 1);
}
CHECKED_CASE(cluster_block_exits_early) {
  auto stream = hopper_stream();
  Buffer<float> y(64);
  launch_clusters(*stream, "exits", exits_kernel, 2, 64, 2, sizeof(Exchanged), y.data());
  expect_error([&] { stream->synchronize(); }, "has exited");
}

// --- mbarriers ---

struct Handed {
  float v[32];
  Mbarrier full, empty;
};
enum class HandFault { none, no_init_barrier, no_wait, too_many, no_empty_wait };

// Warp 0 hands ten rows of values to warp 1, through one place.
template <HandFault kFault>
__global__ void hand_kernel(const float* x, float* y) {
  auto& s = shared_memory<Handed>();
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 32);
    mbarrier_init(&s.empty, 32);
  }
  if (kFault != HandFault::no_init_barrier) __syncthreads();
  for (unsigned i = 0; i < 10; ++i) {
    if (warp == 0) {
      if (kFault != HandFault::no_empty_wait) mbarrier_wait(&s.empty, i % 2 ^ 1);
      s.v[lane] = x[i * 32 + static_cast<unsigned>(lane)];
      mbarrier_arrive(&s.full);
      if (kFault == HandFault::too_many && lane == 0) mbarrier_arrive(&s.full);
    } else {
      if (kFault != HandFault::no_wait) mbarrier_wait(&s.full, i % 2);
      y[i * 32 + static_cast<unsigned>(lane)] = s.v[lane ^ 1];
      mbarrier_arrive(&s.empty);
    }
  }
}

template <HandFault kFault>
static void run_hand() {
  auto stream = hopper_stream();
  Buffer<float> x(320), y(320);
  std::vector<float> values(320), expected(320);
  for (size_t i = 0; i < 320; ++i) values[i] = static_cast<float>(i);
  for (size_t i = 0; i < 320; ++i) expected[i] = values[i ^ 1];
  x.write(*stream, values);
  launch(*stream, "hand", hand_kernel<kFault>, 1, 64, sizeof(Handed), x.data(), y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(mbarrier_hands_over) { run_hand<HandFault::none>(); }
CHECKED_CASE(mbarrier_without_init_barrier) {
  expect_error(run_hand<HandFault::no_init_barrier>, "initialis");
}
CHECKED_CASE(mbarrier_without_wait) { expect_error(run_hand<HandFault::no_wait>, "hand: thread"); }
CHECKED_CASE(mbarrier_without_empty_wait) {
  expect_error(run_hand<HandFault::no_empty_wait>, "hand: thread");
}
CASE(mbarrier_arrivals_are_counted) { expect_error(run_hand<HandFault::too_many>, "hand: "); }

// Each block sends its rank to the next one of the cluster by st.async.
struct Sent {
  alignas(16) uint32_t v[4];
  Mbarrier full;
};
__global__ void send_kernel(uint32_t* y) {
  auto& s = shared_memory<Sent>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    fence_mbarrier_init();
    mbarrier_expect_and_arrive(&s.full, 8);
  }
  cluster_sync();
  const uint32_t next = (cluster_rank() + 1) % kRanks;
  if (threadIdx.x < 2) {
    const uint32_t value = 10 * cluster_rank() + threadIdx.x;
    store_async(cluster_peer(&s.v[threadIdx.x], next), value, cluster_peer(&s.full, next));
  }
  while (!mbarrier_done(&s.full, 0)) {
  }
  if (threadIdx.x < 2) y[blockIdx.x * 2 + threadIdx.x] = s.v[threadIdx.x];
  cluster_sync();
}
CASE(cluster_store_async) {
  auto stream = hopper_stream();
  Buffer<uint32_t> y(2 * kRanks);
  launch_clusters(*stream, "send", send_kernel, kRanks, 32, kRanks, sizeof(Sent), y.data());
  EXPECT((y.read(*stream) == std::vector<uint32_t>{30, 31, 0, 1, 10, 11, 20, 21}));
}

// --- warpgroup products ---

enum class ProductFault { none, no_proxy_fence, no_fence, no_wait, wrong_stride, overwrites };

template <WgmmaType kType>
using ElementOf =
    std::conditional_t<kType == WgmmaType::tf32, float,
                       std::conditional_t<kType == WgmmaType::float16, Float16, BFloat16>>;

constexpr int kProductN = 128;
struct alignas(1024) Operands {
  unsigned char a[64 * 128], b[kProductN * 128];
};

// Where (row, k) of an operand of 128-byte lines stands, from the layouts' pictures.
template <class T>
__device__ int byte_of(bool transposed, int row, int k) {
  constexpr int kItem = sizeof(T);
  const int line = transposed ? row / 64 * 64 + k : row;
  const int byte = (transposed ? row % 64 : k) * kItem;
  return line * 128 + ((byte / 16) ^ (line % 8)) * 16 + byte % 16;
}

// y[64][128] = A·B over one line of K, with A [64][K] and B [128][K] as floats.
template <WgmmaType kType, bool kAT, bool kBT, ProductFault kFault>
__global__ void product_kernel(const float* a, const float* b, float* y) {
  using T = ElementOf<kType>;
  constexpr int kK = 128 / sizeof(T);
  auto& s = shared_memory<Operands>();
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  for (int i = t; i < 64 * kK; i += 128) {
    *reinterpret_cast<T*>(s.a + byte_of<T>(kAT, i / kK, i % kK)) = from_float<T>(a[i]);
  }
  for (int i = t; i < kProductN * kK; i += 128) {
    *reinterpret_cast<T*>(s.b + byte_of<T>(kBT, i / kK, i % kK)) = from_float<T>(b[i]);
  }
  if (kFault != ProductFault::no_proxy_fence) fence_proxy_async();
  __syncthreads();
  const uint32_t stride = kFault == ProductFault::wrong_stride ? 512 : 1024;
  const uint64_t da = wgmma_descriptor(s.a, kAT ? 8192 : 16, stride);
  const uint64_t db = wgmma_descriptor(s.b, kBT ? 8192 : 16, stride);
  float d[kProductN / 2];
  if (kFault != ProductFault::no_fence) wgmma_fence();
  for (unsigned step = 0; step < 4; ++step) {
    wgmma<kType, kProductN, kAT, kBT>(d, da + step * (kAT ? 128 : 2), db + step * (kBT ? 128 : 2),
                                      step > 0);
  }
  wgmma_commit();
  if (kFault == ProductFault::overwrites) s.b[t] = 0;
  if (kFault != ProductFault::no_wait) wgmma_wait<0>();
  for (int i = 0; i < kProductN / 2; ++i) {
    const int row = t / 32 * 16 + i % 4 / 2 * 8 + lane / 4;
    y[row * kProductN + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
  wgmma_wait<0>();
}

template <WgmmaType kType, bool kAT, bool kBT, ProductFault kFault = ProductFault::none>
static void run_product() {
  constexpr size_t kK = 128 / sizeof(ElementOf<kType>);
  auto stream = hopper_stream();
  Buffer<float> a(64 * kK), b(kProductN * kK), y(64 * kProductN);
  std::vector<float> av(64 * kK), bv(kProductN * kK), expected(64 * kProductN);
  for (size_t i = 0; i < av.size(); ++i) av[i] = static_cast<float>(i * 7 % 23) - 11;
  for (size_t i = 0; i < bv.size(); ++i) bv[i] = static_cast<float>(i * 5 % 29) - 14;
  for (size_t row = 0; row < 64; ++row) {
    for (size_t column = 0; column < kProductN; ++column) {
      for (size_t k = 0; k < kK; ++k) {
        expected[row * kProductN + column] += av[row * kK + k] * bv[column * kK + k];
      }
    }
  }
  a.write(*stream, av);
  b.write(*stream, bv);
  launch(*stream, "product", product_kernel<kType, kAT, kBT, kFault>, 1, 128, sizeof(Operands),
         a.data(), b.data(), y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(product_bfloat16) {
  run_product<WgmmaType::bfloat16, false, false>();
  run_product<WgmmaType::bfloat16, true, false>();
  run_product<WgmmaType::bfloat16, false, true>();
  run_product<WgmmaType::bfloat16, true, true>();
}
CASE(product_float16) {
  run_product<WgmmaType::float16, false, false>();
  run_product<WgmmaType::float16, true, true>();
}
CASE(product_tf32) { run_product<WgmmaType::tf32, false, false>(); }
CHECKED_CASE(product_without_proxy_fence) {
  expect_error(run_product<WgmmaType::bfloat16, false, false, ProductFault::no_proxy_fence>,
               "fence.proxy.async");
}
CASE(product_without_fence) {
  expect_error(run_product<WgmmaType::bfloat16, false, false, ProductFault::no_fence>,
               "wgmma.fence");
}
CASE(product_with_wrong_descriptor) {
  expect_error(run_product<WgmmaType::bfloat16, true, true, ProductFault::wrong_stride>, "");
}
CHECKED_CASE(product_overwritten) {
  expect_error(run_product<WgmmaType::bfloat16, false, false, ProductFault::overwrites>,
               "product: thread");
}

// --- warpgroup products with A in registers ---

constexpr int kLeftK = 64;
template <int kN>
struct alignas(1024) RightOperand {
  unsigned char b[kN * kLeftK * 2];
};
enum class LeftFault { none, changes };

// y[64][N] = A·B, A [64][64] from registers, B [64][N] in lines of as many columns as N allows.
template <WgmmaType kType, int kN, LeftFault kFault>
__global__ void left_kernel(const float* a, const float* b, float* y) {
  using T = ElementOf<kType>;
  constexpr int kLine = kN % 64 == 0 ? 128 : 64, kPerLine = kLine / 2;
  auto& s = shared_memory<RightOperand<kN>>();
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, g = lane / 4, t = lane % 4;
  for (int i = thread; i < kLeftK * kN; i += 128) {
    const int k = i / kN, n = i % kN, swizzle = kLine == 128 ? k % 8 : k / 2 % 4;
    const int at =
        n / kPerLine * kLeftK * kLine + k * kLine + ((n % kPerLine / 8) ^ swizzle) * 16 + n % 8 * 2;
    *reinterpret_cast<T*>(s.b + at) = from_float<T>(b[i]);
  }
  uint32_t left[kLeftK / 16][4];
  for (int step = 0; step < kLeftK / 16; ++step) {
    for (int r = 0; r < 4; ++r) {
      const int row = thread / 32 * 16 + r % 2 * 8 + g, k = step * 16 + r / 2 * 8 + 2 * t;
      const float* const pair = a + row * kLeftK + k;
      left[step][r] =
          from_float<T>(pair[0]).bits | static_cast<uint32_t>(from_float<T>(pair[1]).bits) << 16;
    }
  }
  fence_proxy_async();
  __syncthreads();
  float d[kN / 2] = {};
  wgmma_fence();
  const uint64_t right = wgmma_descriptor(s.b, kLeftK * kLine, 8 * kLine, kLine);
  for (unsigned step = 0; step < kLeftK / 16; ++step) {
    wgmma<kType, kN, true>(d, left[step], right + step * kLine, true);
  }
  wgmma_commit();
  if (kFault == LeftFault::changes && thread == 77) left[3][1] ^= 1;
  wgmma_wait<0>();
  for (int i = 0; i < kN / 2; ++i) {
    const int row = thread / 32 * 16 + i % 4 / 2 * 8 + g;
    y[row * kN + i / 4 * 8 + t * 2 + i % 2] = d[i];
  }
}

template <WgmmaType kType, int kN, LeftFault kFault = LeftFault::none>
static void run_left() {
  auto stream = hopper_stream();
  Buffer<float> a(64 * kLeftK), b(kLeftK * kN), y(64 * kN);
  std::vector<float> av(64 * kLeftK), bv(kLeftK * kN), expected(64 * kN);
  for (size_t i = 0; i < av.size(); ++i) av[i] = static_cast<float>(i * 7 % 23) - 11;
  for (size_t i = 0; i < bv.size(); ++i) bv[i] = static_cast<float>(i * 5 % 29) - 14;
  for (size_t row = 0; row < 64; ++row) {
    for (size_t n = 0; n < kN; ++n) {
      for (size_t k = 0; k < kLeftK; ++k) {
        expected[row * kN + n] += av[row * kLeftK + k] * bv[k * kN + n];
      }
    }
  }
  a.write(*stream, av);
  b.write(*stream, bv);
  launch(*stream, "left", left_kernel<kType, kN, kFault>, 1, 128, sizeof(RightOperand<kN>),
         a.data(), b.data(), y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(product_with_left_in_registers) {
  run_left<WgmmaType::bfloat16, 32>();
  run_left<WgmmaType::float16, 64>();
  run_left<WgmmaType::bfloat16, 96>();
  run_left<WgmmaType::float16, 128>();
}
CASE(product_with_registers_changed) {
  expect_error(run_left<WgmmaType::bfloat16, 64, LeftFault::changes>, "registers of A");
}

__global__ void elect_kernel(int* y) {
  lower_registers<24>();
  for (int i = 0; i < 8; ++i) {
    if (elect_one()) y[threadIdx.x / 32 * 8 + static_cast<unsigned>(i)] = 1;
    __syncwarp();
  }
}
CASE(elects_one_lane) {
  auto stream = hopper_stream();
  Buffer<int> y(32);
  launch(*stream, "elect", elect_kernel, 1, 128, 0, y.data());
  EXPECT(y.read(*stream) == std::vector<int>(32, 1));
}

// A loading warpgroup gives registers back, two others take some.
template <int kLoads, int kMultiplies>
__global__ void shares_kernel(int* y) {
  if (threadIdx.x < 128) {
    lower_registers<kLoads>();
  } else {
    raise_registers<kMultiplies>();
  }
  y[threadIdx.x] = 1;
}
template <int kLoads, int kMultiplies>
static void run_shares() {
  auto stream = hopper_stream();
  Buffer<int> y(384);
  launch(*stream, "shares", shares_kernel<kLoads, kMultiplies>, 1, 384, 0, y.data());
  EXPECT(y.read(*stream) == std::vector<int>(384, 1));
}
CASE(registers_change_hands) { run_shares<40, 232>(); }
CASE(registers_that_are_not_there) {
  expect_error(run_shares<48, 232>, "waits without end for 64 registers");
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
