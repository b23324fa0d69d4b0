// Convolutions of images whose channels lie together on sm_90a, in bfloat16, float16 and TF32:
// C[place, m] = Σ_k patch · weight with k = (tap, channel), in tiles of 128 places by the pipeline
// of wgmma_pipeline.h. A stage is one tap and 128 bytes of its channels, or twice one and 64 bytes.
// The image comes by copies in im2col mode: the tensor map walks over the windows' first elements,
// in the order of places, and the tap is an offset, so that padding, strides and dilation cost
// nothing. The data gradient reads dy with the taps turned around: its windows start at
// -(kh - 1)·dilation + pad. Weights are packed (conv_pack.cu) and come by boxes; of two blocks of a
// cluster, 128 places apart, each fetches half for both. Cost: 2·n·o·oh·ow·c/groups·kh·kw
// operations, floor that / 989e12 s on H100 (TF32: 495e12).
#include <algorithm>

#include "conv_wgmma.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

struct WindowProblem {
  void* out;
  const void* bias;
  WgmmaTiles tiles;
  int32_t places, rows;            // rows: channels of C, of a group
  int32_t channels, all_channels;  // of the image: of a group, of all
  int32_t kh, kw;
  WindowAxis down, across;
  Divider positions, row;  // of a plane of places
  // Elements from the output's start to place (0, 0) of the first image, and between neighbours.
  int64_t out_start, out_image, out_row, out_column;
  bool relu, vector;  // vector: the output and the bias allow 16-byte access
};

// Stages of K: taps and lines of channels one after another, one of 128 bytes or two of 64 a stage.
template <class C, Lines kLines>
struct Stage {
  static constexpr int kCopies = kLines == Lines::k_halves ? 2 : 1;
  static constexpr int kLineChannels = C::kTileK / kCopies;

  __device__ static int32_t count(const WindowProblem& p) {
    const int32_t lines = p.kh * p.kw * ((p.channels + kLineChannels - 1) / kLineChannels);
    return (lines + kCopies - 1) / kCopies;
  }
};

template <class C, Lines kLines>
__device__ __forceinline__ void produce(typename C::Shared& shared, const CUtensorMap* image_map,
                                        const CUtensorMap* weight_map, const WindowProblem& p,
                                        uint32_t rank) {
  using S = Stage<C, kLines>;
  constexpr int kBytes = kLine / S::kCopies;
  Ring<C::kStages> ring;
  const int stages = S::count(p);
  for (uint32_t unit = blockIdx.x / p.tiles.cluster; unit < static_cast<uint32_t>(p.tiles.units);
       unit += gridDim.x / p.tiles.cluster) {
    const WgmmaPlace place = unit_place<C>(p.tiles, unit, rank);
    // Behind the last place, where a pair has its second tile, nothing is stored.
    const WindowStart start =
        window_start(min(place.m, p.places - 1), p.positions, p.row, p.down, p.across);
    TapWalk at;
    for (int stage = 0; stage < stages; ++stage) {
      Mbarrier* full = &shared.full[ring.stage];
      mbarrier_wait(&shared.empty[ring.stage], ring.parity ^ 1);
      mbarrier_expect_and_arrive(full, C::kStageBytes);
#pragma unroll
      for (int copy = 0; copy < S::kCopies; ++copy) {
        // Behind the last tap both copies bring zeros.
        const bool there = at.i < p.kh;
        const int down = there ? p.down.first + at.i * p.down.step : 0;
        const int across = there ? p.across.first + at.j * p.across.step : 0;
        const int from = there ? place.batch * p.channels + at.channel : p.all_channels;
        load_windows(shared.a[ring.stage] + copy * C::kBM * kBytes, image_map, from, start.x,
                     start.y, start.image, across, down, full);
        unsigned char* b = shared.b[ring.stage] + copy * C::kBN * kBytes;
        const int tap = at.i * p.kw + at.j;
        if (p.tiles.multicast) {
          const int row = static_cast<int>(rank) * (C::kBN / 2);
          load_box_multicast(b + row * kBytes, weight_map, at.channel, tap, place.n + row,
                             place.batch, full, 3);
        } else {
          load_box(b, weight_map, at.channel, tap, place.n, place.batch, full);
        }
        at.advance(S::kLineChannels, p.channels, p.kw);
      }
      ring.advance();
    }
  }
}

// Adds the bias to neighbouring channels of one place, and stores them.
template <class C>
__device__ __forceinline__ void finish_place(const WindowProblem& p, const WgmmaPlace& tile,
                                             int row, int column, float (&v)[C::kPerStore]) {
  using T = typename C::T;
  const int m = tile.n + column;
  const int64_t line = static_cast<int64_t>(tile.batch) * p.rows + m, left = p.rows - m;
  const ConvIndex at = split_index(tile.m + row, p.positions, p.row, true);
  if (p.bias) {
    float bias[C::kPerStore];
    load_columns(static_cast<const T*>(p.bias) + line, p.vector, left, bias);
#pragma unroll
    for (int i = 0; i < C::kPerStore; ++i) v[i] += bias[i];
  }
  if (p.relu) activate(Activation::relu, v);
  T* const to = static_cast<T*>(p.out) + p.out_start + at.outer * p.out_image +
                at.high * p.out_row + at.low * p.out_column + line;
  put_columns(to, p.vector, left, v);
}

template <class C, Lines kLines>
__device__ __forceinline__ void consume(typename C::Shared& shared, const WindowProblem& p,
                                        uint32_t rank) {
  Ring<C::kStages> ring;
  const int32_t stages = Stage<C, kLines>::count(p);
  float d[C::kBN / 2];
  for (uint32_t unit = blockIdx.x / p.tiles.cluster; unit < static_cast<uint32_t>(p.tiles.units);
       unit += gridDim.x / p.tiles.cluster) {
    multiply_tile<C, kLines, kLines>(shared, p.tiles, {0, stages}, ring, d);
    const WgmmaPlace place = unit_place<C>(p.tiles, unit, rank);
    store_rows<C>(
        shared, d,
        [&](int row, int column) { return place.m + row < p.places && place.n + column < p.rows; },
        [&](int row, int column, float(&v)[C::kPerStore]) {
          finish_place<C>(p, place, row, column, v);
        });
  }
}

template <class C, Lines kLines>
__global__ void __launch_bounds__(C::kThreads, 1)
    conv_wgmma_kernel(const __grid_constant__ CUtensorMap image_map,
                      const __grid_constant__ CUtensorMap weight_map,
                      const __grid_constant__ WindowProblem p) {
#ifdef NODEGRAD_HAS_WGMMA
  auto& shared = shared_memory<typename C::Shared>();
  const uint32_t rank = cluster_rank();
  run_pipeline<C>(
      shared, p.tiles, &image_map, &weight_map,
      [&] { produce<C, kLines>(shared, &image_map, &weight_map, p, rank); },
      [&] { consume<C, kLines>(shared, p, rank); });
#else
  __trap();  // has_wgmma keeps launches away
#endif
}

bool encode_weights(CUtensorMap* map, const Windows& w, const ConvProblem& p, const void* packed,
                    int tile_k, int tile_n) {
  TensorBox t{};
  t.data = packed;
  t.item = static_cast<uint8_t>(w.item);
  t.to_tf32 = w.item == 4;
  const int64_t sizes[4] = {w.channels, p.s.kh * p.s.kw, p.rows, p.s.groups};
  int64_t stride = w.item;
  for (int i = 0; i < 4; ++i) {
    t.sizes[i] = static_cast<uint64_t>(sizes[i]);
    stride *= sizes[i];
    if (i < 3) t.strides[i] = static_cast<uint64_t>(stride);
    t.box[i] = 1;
  }
  t.box[0] = static_cast<uint32_t>(tile_k);
  t.box[2] = static_cast<uint32_t>(tile_n);
  return encode_tensor_map(map, t);
}

WindowProblem window_problem(ConvMode mode, const ConvProblem& p, const Windows& w,
                             const WgmmaPlan& plan) {
  const bool data = mode == ConvMode::data;
  const ConvStrides& out = data ? p.x : p.y;
  WindowProblem q{};
  q.out = p.out;
  q.bias = p.bias;
  q.tiles.cluster = static_cast<uint8_t>(plan.cluster);
  q.tiles.multicast = plan.cluster > 1;
  q.tiles.units_m = static_cast<int32_t>(divide_up(p.columns, int64_t{plan.bm} * plan.cluster));
  q.tiles.tiles_n = static_cast<int32_t>(divide_up(p.rows, plan.bn));
  q.tiles.units = static_cast<int32_t>(int64_t{q.tiles.units_m} * q.tiles.tiles_n * p.s.groups);
  q.places = static_cast<int32_t>(p.columns);
  q.rows = static_cast<int32_t>(p.rows);
  q.channels = static_cast<int32_t>(w.channels);
  q.all_channels = static_cast<int32_t>(w.all_channels);
  q.kh = static_cast<int32_t>(p.s.kh);
  q.kw = static_cast<int32_t>(p.s.kw);
  q.down = w.down.axis;
  q.across = w.across.axis;
  q.positions = p.positions;
  q.row = p.row;
  q.out_start = p.down.first * out.row + p.across.first * out.column;
  q.out_row = p.down.step * out.row;
  q.out_column = p.across.step * out.column;
  q.out_image = w.out_channels * (data ? p.s.h * p.s.w : p.s.oh * p.s.ow);
  q.relu = p.relu;
  const auto aligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; };
  q.vector = p.rows * w.item % 16 == 0 && aligned(p.out) && aligned(p.bias);
  return q;
}

template <class C, Lines kLines>
bool launch_lines(Stream& stream, ConvMode mode, const ConvProblem& p, const Windows& w,
                  const WgmmaPlan& plan, const WgmmaRoom& room) {
  constexpr int kChannels = Stage<C, kLines>::kLineChannels;
  alignas(128) CUtensorMap image_map, weight_map;
  if (!encode_image(&image_map, w, p.right, kChannels, C::kBM)) return false;
  void* const packed = pack_conv_weights(stream, mode, p);
  const bool possible = encode_weights(&weight_map, w, p, packed, kChannels, C::kBN / plan.cluster);
  if (possible) {
    const WindowProblem q = window_problem(mode, p, w, plan);
    const int64_t clusters = std::min<int64_t>(q.tiles.units, room.of(plan.cluster));
    launch_clusters(stream, "conv2d_wgmma", conv_wgmma_kernel<C, kLines>,
                    dim3(static_cast<unsigned>(clusters * plan.cluster)), dim3(C::kThreads),
                    static_cast<unsigned>(plan.cluster), sizeof(typename C::Shared), image_map,
                    weight_map, q);
  }
  release_scratch(stream, packed);
  return possible;
}

template <class C>
bool launch_config(Stream& stream, ConvMode mode, const ConvProblem& p, const Windows& w,
                   const WgmmaPlan& plan, const WgmmaRoom& room) {
  return w.line() == kLine ? launch_lines<C, Lines::k>(stream, mode, p, w, plan, room)
                           : launch_lines<C, Lines::k_halves>(stream, mode, p, w, plan, room);
}

template <WgmmaType kType>
bool launch_shape(Stream& stream, ConvMode mode, const ConvProblem& p, const Windows& w,
                  const WgmmaPlan& plan, const WgmmaRoom& room) {
  switch (plan.bn) {
    case 64:
      return launch_config<WgmmaConfig<kType, 128, 64>>(stream, mode, p, w, plan, room);
    case 128:
      return launch_config<WgmmaConfig<kType, 128, 128>>(stream, mode, p, w, plan, room);
    case 192:
      return launch_config<WgmmaConfig<kType, 128, 192>>(stream, mode, p, w, plan, room);
    default:
      return launch_config<WgmmaConfig<kType, 128, 256>>(stream, mode, p, w, plan, room);
  }
}

// Whether it is worth while: lines are no padding for the most part, and there are tiles for half
// of the chip, as otherwise conv_mma.cu cuts K in slices.
bool worthwhile(Stream& stream, const Windows& w, const ConvProblem& p, const WgmmaPlan& plan) {
  const int64_t tiles = divide_up(p.columns, plan.bm) * divide_up(p.rows, plan.bn) * p.s.groups;
  return w.fills_lines() && 2 * tiles >= multiprocessors(stream);
}

WgmmaPlan choose_plan(const Windows& w, const ConvProblem& p, const WgmmaRoom& room) {
  GemmArgs product{};
  product.m = p.columns;
  product.n = p.rows;
  product.k = p.s.kh * p.s.kw * w.lines() * w.line() / w.item;
  product.batch = p.s.groups;
  product.dtype = p.s.dtype;
  return choose_wgmma_plan(product, room, true);
}

}  // namespace

bool launch_conv_wgmma(Stream& stream, ConvMode mode, const ConvProblem& p, const WgmmaPlan* plan) {
  const bool together = p.x.channel == 1 && p.y.channel == 1;
  if (!together || p.k == 0 || compute_capability(stream) != 90 || !has_wgmma(stream)) {
    return false;
  }
  if (!plan) plan = asked_wgmma_plan();
  if (mode == ConvMode::weight) return launch_conv_wgmma_weight(stream, p, plan);
  const Windows w = windows_of(mode, p);
  // Channels beyond a group's belong to the next one: not to be multiplied, be it by zeros.
  const bool apart = p.s.groups == 1 || w.channels * w.item % w.line() == 0;
  if (!apart || !describable(w, p.right)) return false;
  if (plan && plan->bm != 128) plan = nullptr;
  const WgmmaRoom room = wgmma_room(stream);
  const WgmmaPlan chosen = plan ? *plan : choose_plan(w, p, room);
  // What was asked for is done, for tests of small sizes.
  if (!plan && !worthwhile(stream, w, p, chosen)) return false;
  switch (p.s.dtype) {
    case DType::bfloat16:
      return launch_shape<WgmmaType::bfloat16>(stream, mode, p, w, chosen, room);
    case DType::float16:
      return launch_shape<WgmmaType::float16>(stream, mode, p, w, chosen, room);
    default:
      return launch_shape<WgmmaType::tf32>(stream, mode, p, w, chosen, room);
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
