// C = A·B in TF32 on sm_90a (gemm_wgmma_tile.h, gemm_wgmma_kernel.h). From shared memory wgmma
// takes TF32 operands along K alone, but A may come from registers: an operand that runs along M or
// N becomes A, for which B's part Cᵀ = Bᵀ·Aᵀ is computed. Where neither runs along K, one is turned
// by a copy first, as is one whose lines a tensor copy cannot describe.
//
// A's fragments are read from its lines of K by 8 bytes a lane, free of bank conflicts: of 32 rows
// in a line, lane (g, t) of the line's warp u reads 16·b + 8·u + 4·(g/4) + 2·(g%2) and the next
// one, b being g/2 % 2, of line t and then of line t + 4. D's rows have that order, too (tile_row).
// The next stage's fragments are read while this one's products run. Floor 2MNK / 495e12 s on H100.
#include "gemm_transpose.h"
#include "gemm_wgmma_kernel.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

template <WgmmaType kType, int kBM, int kBN>
struct SharedTiles : Config<kType, kBM, kBN> {
  using Base = Config<kType, kBM, kBN>;

  static __device__ __forceinline__ void multiply(typename Base::Shared& shared,
                                                  const WgmmaProblem& p, const WgmmaRange& range,
                                                  Ring<Base::kStages>& ring, float (&d)[kBN / 2],
                                                  float (&)[4], bool) {
    multiply_tile<Base, Lines::k, Lines::k>(shared, p.tiles, range, ring, d);
  }
};

constexpr int kSteps = kLine / 32;
using Fragments = uint32_t[kSteps][4];

[[maybe_unused]] __device__ __forceinline__ void touch(Fragments& a) {
#pragma unroll
  for (int step = 0; step < kSteps; ++step) wgmma_touch(a[step]);
}

// `tile`: the stage's lines of A.
[[maybe_unused]] __device__ __forceinline__ void read_fragments(const unsigned char* tile,
                                                                Fragments& a) {
  const int thread = static_cast<int>(threadIdx.x) - kWarpgroup, lane = thread % 32;
  const int warp = thread / 32, g = lane / 4, t = lane % 4;
  const int chunk = g / 2 % 2 * 4 + warp % 2 * 2 + g / 4;
  const unsigned char* lines = tile + warp / 2 * 32 * kLine + g % 2 * 8;
  const unsigned char* first = lines + t * kLine + (chunk ^ t) * 16;
  const unsigned char* second = lines + (t + 4) * kLine + (chunk ^ (t + 4)) * 16;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const auto low = load_vector<2>(reinterpret_cast<const uint32_t*>(first + step * 8 * kLine));
    const auto high = load_vector<2>(reinterpret_cast<const uint32_t*>(second + step * 8 * kLine));
    a[step][0] = low[0];
    a[step][1] = low[1];
    a[step][2] = high[0];
    a[step][3] = high[1];
  }
}

template <WgmmaType kType, int kBM, int kBN>
struct LeftTiles : Config<kType, kBM, kBN> {
  using Base = Config<kType, kBM, kBN>;
  using Shared = typename Base::Shared;

  static constexpr bool kLeft = true;
  static constexpr int kBetween = 1;
  __device__ static int staged_row(int g) { return g / 4 * 8 + g / 2 % 2 * 4 + g % 2 * 2; }
  __device__ static int tile_row(int warp, int staged) {
    return warp / 2 * 32 + staged / 4 % 2 * 16 + warp % 2 * 8 + staged / 8 * 4 + staged % 4;
  }

  static __device__ __forceinline__ void multiply(Shared& shared, const WgmmaProblem& p,
                                                  const WgmmaRange& range,
                                                  Ring<Base::kStages>& ring, float (&d)[kBN / 2],
                                                  float (&)[4], bool) {
    Fragments even, odd;
    int previous = 0;
    mbarrier_wait(&shared.full[ring.stage], ring.parity);
    read_fragments(shared.a[ring.stage], even);
    for (int32_t block = range.begin; block < range.end; block += 2) {
      multiply_stage(shared, p, range, block, ring, previous, even, odd, d);
      if (block + 1 == range.end) break;
      multiply_stage(shared, p, range, block + 1, ring, previous, odd, even, d);
    }
    wgmma_wait<0>();
    wgmma_touch(d);
    touch(even);
    touch(odd);
    release_stage(&shared.empty[previous], p.tiles);
  }

 private:
  // Of the stage whose fragments are in `now`; `next` is free once the products before are done.
  static __device__ __forceinline__ void multiply_stage(Shared& shared, const WgmmaProblem& p,
                                                        const WgmmaRange& range, int32_t block,
                                                        Ring<Base::kStages>& ring, int& previous,
                                                        Fragments& now, Fragments& next,
                                                        float (&d)[kBN / 2]) {
    const uint64_t b = wgmma_descriptor(shared.b[ring.stage], 16, kPeriod);
    wgmma_touch(d);
    touch(now);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      wgmma<kType, kBN, false>(d, now[step], b + step * 2, step > 0 || block > range.begin);
    }
    wgmma_commit();
    wgmma_touch(d);
    if (block > range.begin) {
      wgmma_wait<1>();
      touch(next);
      release_stage(&shared.empty[previous], p.tiles);
    }
    previous = ring.stage;
    ring.advance();
    if (block + 1 == range.end) return;
    mbarrier_wait(&shared.full[ring.stage], ring.parity);
    read_fragments(shared.a[ring.stage], next);
  }
};

// The same product as Cᵀ = Bᵀ·Aᵀ, in which A and B have changed places.
GemmArgs turned(const GemmArgs& args) {
  GemmArgs t = args;
  std::swap(t.a, t.b);
  std::swap(t.m, t.n);
  t.a_row = args.b_col;
  t.a_col = args.b_row;
  t.b_row = args.a_col;
  t.b_col = args.a_row;
  std::swap(t.a_batch, t.b_batch);
  return t;
}

}  // namespace

bool launch_gemm_wgmma_tf32(Stream& stream, const GemmArgs& args, const WgmmaPlan* plan,
                            const WgmmaRoom& room) {
  const Turning turning = choose_turning(args);
  // What was asked for is done, for tests of small sizes.
  if (!plan && !turning.pays) return false;
  const int64_t ld = divide_up(args.k, 4) * 4;
  GemmArgs ready = args;
  bool possible = true;
  const auto copy = [&](int64_t rows, const void*& data, int64_t from_ld, int64_t& batch_stride) {
    const int64_t copies = batch_stride == 0 ? 1 : args.batch;
    void* to = acquire_scratch(stream, sizeof(float) * static_cast<size_t>(copies * rows * ld));
    possible =
        launch_gemm_transpose(stream, {static_cast<const float*>(data), static_cast<float*>(to),
                                       rows, args.k, copies, from_ld, batch_stride, ld, rows * ld});
    data = to;
    batch_stride = batch_stride == 0 ? 0 : rows * ld;
    return to;
  };
  void *a = nullptr, *b = nullptr;
  if (turning.copies_a) {
    a = copy(args.m, ready.a, args.a_col, ready.a_batch);
    ready.a_row = ld;
    ready.a_col = 1;
  }
  if (turning.copies_b && possible) {
    b = copy(args.n, ready.b, args.b_row, ready.b_batch);
    ready.b_row = 1;
    ready.b_col = ld;
  }
  if (possible) {
    const bool left_a = ready.a_col != 1, left_b = ready.b_row != 1;
    if (left_b) ready = turned(ready);
    const WgmmaPlan chosen = plan ? *plan : choose_wgmma_plan(ready, room);
    constexpr WgmmaType kType = WgmmaType::tf32;
    possible = left_a || left_b
                   ? launch_shape<LeftTiles, kType>(stream, ready, chosen, room, left_b)
                   : launch_shape<SharedTiles, kType>(stream, ready, chosen, room);
  }
  if (a) release_scratch(stream, a);
  if (b) release_scratch(stream, b);
  return possible;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
