// Weight gradients of convolutions of images whose channels lie together on sm_90a, in bfloat16 and
// float16: C[o, (tap, c)] = Σ dy[place, o] · x[window of place + tap, c], by the pipeline of
// wgmma_pipeline.h with K = places, 64 a stage. Both operands lie along M or N: dy comes by boxes
// of 64 places and 64 channels, x by copies in im2col mode of 64 windows and 64 channels at one
// tap, a line of columns of C. K is cut in slices, so that few tiles fill the chip; a second kernel
// adds their sums in order and brings them into the order [o][c][tap]. What copies bring beyond a
// group's channels makes rows and columns that are not read. Cost: 2·n·o·oh·ow·c/groups·kh·kw
// operations, floor that / 989e12 s on H100.
#include <algorithm>

#include "conv_wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct WeightProblem {
  float* partial;           // [slice][group][rows][lines][columns of a line]
  WgmmaTiles tiles;         // units: of all slices and groups
  int32_t rows, channels;   // of a group
  int32_t stages, slices;   // stages: of K
  int32_t kw, taps, lines;  // lines: of columns of C, of a group
  int32_t groups;
  WindowAxis down, across;
  Divider positions, row;
};

template <Lines kLines>
constexpr int kLineColumns = kLines == Lines::outer ? 64 : 32;

struct WeightPlace {
  int32_t slice, group, m, line;  // m, line: the tile's first
};

// Slice after slice, so that blocks that run together share dy and x in L2.
template <class C, Lines kLines>
__device__ __forceinline__ WeightPlace weight_place(const WeightProblem& p, uint32_t unit) {
  const uint32_t per_group = static_cast<uint32_t>(p.tiles.units_m) * p.tiles.tiles_n;
  const uint32_t tile = unit % per_group, rest = unit / per_group;
  return {static_cast<int32_t>(rest / p.groups), static_cast<int32_t>(rest % p.groups),
          static_cast<int32_t>(tile % p.tiles.units_m) * C::kBM,
          static_cast<int32_t>(tile / p.tiles.units_m) * (C::kBN / kLineColumns<kLines>)};
}

// Slices differ by one stage at most, and none is empty.
[[maybe_unused]] __device__ __forceinline__ WgmmaRange slice_range(const WeightProblem& p,
                                                                   int32_t slice) {
  return slice_of(static_cast<uint32_t>(p.stages), static_cast<uint32_t>(p.slices),
                  static_cast<uint32_t>(slice));
}

template <class C, Lines kLines>
__device__ __forceinline__ void produce(typename C::Shared& shared, const CUtensorMap* dy_map,
                                        const CUtensorMap* image_map, const WeightProblem& p) {
  constexpr int kColumns = kLineColumns<kLines>, kCopies = C::kBN / kColumns;
  Ring<C::kStages> ring;
  const int lines_of_tap = p.lines / p.taps;
  for (uint32_t unit = blockIdx.x; unit < static_cast<uint32_t>(p.tiles.units); unit += gridDim.x) {
    const WeightPlace place = weight_place<C, kLines>(p, unit);
    const int first_tap = place.line / lines_of_tap;
    const WgmmaRange range = slice_range(p, place.slice);
    for (int32_t stage = range.begin; stage < range.end; ++stage) {
      const int first = stage * C::kTileK;
      const WindowStart start = window_start(first, p.positions, p.row, p.down, p.across);
      Mbarrier* full = &shared.full[ring.stage];
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect_and_arrive(full, C::kStageBytes);
#pragma unroll
      for (int i = 0; i < C::kBM; i += kGroup) {
        load_box(shared.a[ring.stage] + i * kLine, dy_map, place.group * p.rows + place.m + i,
                 first, 0, full);
      }
      TapWalk at{first_tap / p.kw, first_tap % p.kw, place.line % lines_of_tap * kColumns};
#pragma unroll
      for (int copy = 0; copy < kCopies; ++copy) {
        load_windows(shared.b[ring.stage] + copy * kColumns * kLine, image_map,
                     place.group * p.channels + at.channel, start.x, start.y, start.image,
                     p.across.first + at.j * p.across.step, p.down.first + at.i * p.down.step,
                     full);
        // The last line again stands in for those behind it.
        if (place.line + copy + 1 < p.lines) at.advance(kColumns, p.channels, p.kw);
      }
      ring.advance();
    }
  }
}

template <class C, Lines kLines>
__device__ __forceinline__ void consume(typename C::Shared& shared, const WeightProblem& p) {
  Ring<C::kStages> ring;
  float d[C::kBN / 2];
  for (uint32_t unit = blockIdx.x; unit < static_cast<uint32_t>(p.tiles.units); unit += gridDim.x) {
    const WeightPlace place = weight_place<C, kLines>(p, unit);
    multiply_tile<C, Lines::outer, kLines>(shared, p.tiles, slice_range(p, place.slice), ring, d);
    const int64_t columns = static_cast<int64_t>(p.lines) * kLineColumns<kLines>;
    const int64_t line = (static_cast<int64_t>(place.slice) * p.groups + place.group) * p.rows;
    const int column0 = place.line * kLineColumns<kLines>;
    store_rows<C>(
        shared, d,
        [&](int row, int column) { return place.m + row < p.rows && column0 + column < columns; },
        [&](int row, int column, float(&v)[C::kPerStore]) {
          put_columns(p.partial + (line + place.m + row) * columns + column0 + column, true,
                      C::kPerStore, v);
        });
  }
}

template <class C, Lines kLines>
__global__ void __launch_bounds__(C::kThreads, 1)
    conv_wgmma_weight_kernel(const __grid_constant__ CUtensorMap dy_map,
                             const __grid_constant__ CUtensorMap image_map,
                             const __grid_constant__ WeightProblem p) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  run_pipeline<C>(
      shared, p.tiles, &dy_map, &image_map,
      [&] { produce<C, kLines>(shared, &dy_map, &image_map, p); },
      [&] { consume<C, kLines>(shared, p); });
#else
  __trap();  // has_wgmma keeps launches away
#endif
}

bool encode_gradient(CUtensorMap* map, const Windows& w, const ConvProblem& p) {
  TensorBox t{};
  t.data = p.left;
  t.item = static_cast<uint8_t>(w.item);
  t.sizes[0] = static_cast<uint64_t>(w.out_channels);
  t.sizes[1] = static_cast<uint64_t>(p.k);
  t.sizes[2] = 1;
  t.strides[0] = t.strides[1] = static_cast<uint64_t>(w.out_channels * w.item);
  t.box[0] = t.box[1] = kGroup;
  t.box[2] = 1;
  return encode_tensor_map(map, t);
}

template <class C, Lines kLines>
bool launch_lines(Stream& stream, const ConvProblem& p, const Windows& w, const WgmmaPlan& plan) {
  constexpr int kColumns = kLineColumns<kLines>;
  alignas(128) CUtensorMap dy_map, image_map;
  if (!encode_gradient(&dy_map, w, p) ||
      !encode_image(&image_map, w, p.right, kColumns, C::kTileK)) {
    return false;
  }
  WeightProblem q{};
  q.rows = static_cast<int32_t>(p.rows);
  q.channels = static_cast<int32_t>(w.channels);
  q.groups = static_cast<int32_t>(p.s.groups);
  q.kw = static_cast<int32_t>(p.s.kw);
  q.taps = static_cast<int32_t>(p.s.kh * p.s.kw);
  q.lines = q.taps * static_cast<int32_t>(w.lines());
  q.stages = static_cast<int32_t>(divide_up(p.k, C::kTileK));
  q.slices = std::min(plan.slices, q.stages);
  q.down = w.down.axis;
  q.across = w.across.axis;
  q.positions = p.positions;
  q.row = p.row;
  q.tiles.cluster = 1;
  q.tiles.units_m = static_cast<int32_t>(divide_up(p.rows, C::kBM));
  q.tiles.tiles_n = static_cast<int32_t>(divide_up(int64_t{q.lines} * kColumns, C::kBN));
  const int64_t units = int64_t{q.tiles.units_m} * q.tiles.tiles_n * p.s.groups * q.slices;
  if (units >= int64_t{1} << 31) return false;
  q.tiles.units = static_cast<int32_t>(units);
  const int64_t sums = int64_t{q.slices} * q.groups * q.rows * q.lines * kColumns;
  q.partial =
      static_cast<float*>(acquire_scratch(stream, sizeof(float) * static_cast<size_t>(sums)));
  const int64_t blocks = std::min<int64_t>(units, multiprocessors(stream));
  launch(stream, "conv2d_wgmma", conv_wgmma_weight_kernel<C, kLines>,
         dim3(static_cast<unsigned>(blocks)), dim3(C::kThreads), sizeof(typename C::Shared), dy_map,
         image_map, q);
  sum_conv_gradients(stream, p, q.partial, q.slices, w.lines() * kColumns);
  release_scratch(stream, q.partial);
  return true;
}

template <class C>
bool launch_config(Stream& stream, const ConvProblem& p, const Windows& w, const WgmmaPlan& plan) {
  return w.line() == kLine ? launch_lines<C, Lines::outer>(stream, p, w, plan)
                           : launch_lines<C, Lines::outer_short>(stream, p, w, plan);
}

template <WgmmaType kType, int kBM>
bool launch_shape(Stream& stream, const ConvProblem& p, const Windows& w, const WgmmaPlan& plan) {
  switch (plan.bn) {
    case 128:
      return launch_config<WgmmaConfig<kType, kBM, 128>>(stream, p, w, plan);
    case 192:
      return launch_config<WgmmaConfig<kType, kBM, 192>>(stream, p, w, plan);
    default:
      return launch_config<WgmmaConfig<kType, kBM, 256>>(stream, p, w, plan);
  }
}

template <WgmmaType kType>
bool launch_type(Stream& stream, const ConvProblem& p, const Windows& w, const WgmmaPlan& plan) {
  return plan.bm == 64 ? launch_shape<kType, 64>(stream, p, w, plan)
                       : launch_shape<kType, 128>(stream, p, w, plan);
}

// The width of tiles and the slices that cost least by a rough estimate in cycles: slices that fill
// the chip up to four times, the ends of tiles, and the sums' way through memory.
WgmmaPlan choose_plan(Stream& stream, const ConvProblem& p, const Windows& w) {
  constexpr int64_t kLeastStages = 8, kMostWaves = 4;
  constexpr double kEndCycles = 2000, kBytesPerCycle = 20;
  const int64_t processors = multiprocessors(stream), stages = divide_up(p.k, kGroup);
  const int64_t columns = p.s.kh * p.s.kw * w.lines() * w.line() / w.item;
  const double sums = 2.0 * sizeof(float) * static_cast<double>(w.out_channels * columns);
  const double sum_cycles = sums / (kBytesPerCycle * static_cast<double>(processors));
  WgmmaPlan plan{};
  double least = 0;
  for (int bn : {256, 192, 128}) {
    WgmmaPlan shape{p.rows <= 64 ? 64 : 128, bn, 1, 1};
    const int64_t tiles = divide_up(p.rows, shape.bm) * divide_up(columns, bn) * p.s.groups;
    for (int64_t waves = 1; waves <= kMostWaves; ++waves) {
      const int64_t slices =
          std::max<int64_t>(1, std::min(waves * processors / tiles, stages / kLeastStages));
      const auto turns = static_cast<double>(divide_up(tiles * slices, processors));
      const auto of_slice = static_cast<double>(divide_up(stages, slices));
      const double cycles = turns * (of_slice * wgmma_stage_cycles(shape) + kEndCycles) +
                            static_cast<double>(slices) * sum_cycles;
      if (plan.bn > 0 && cycles >= least) continue;
      least = cycles;
      shape.slices = static_cast<int>(slices);
      plan = shape;
    }
  }
  return plan;
}

}  // namespace

bool launch_conv_wgmma_weight(Stream& stream, const ConvProblem& p, const WgmmaPlan* plan) {
  const Windows w = windows_of(ConvMode::weight, p);
  if (w.item != 2 || !describable(w, p.right) || w.out_channels % 8 != 0 ||
      reinterpret_cast<uintptr_t>(p.left) % 16 != 0) {
    return false;
  }
  if (plan && (plan->bn < 128 || plan->cluster > 1)) plan = nullptr;
  // Rows and lines that are padding for the most part do better elsewhere.
  if (!plan && (2 * p.rows <= kGroup || !w.fills_lines())) return false;
  const WgmmaPlan chosen = plan ? *plan : choose_plan(stream, p, w);
  return p.s.dtype == DType::bfloat16 ? launch_type<WgmmaType::bfloat16>(stream, p, w, chosen)
                                      : launch_type<WgmmaType::float16>(stream, p, w, chosen);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
