// The gradient of a convolution's weight: dWᵀ = Σ_n patches(x[n]) · dy[n]ᵀ, in parts of some images
// that are added in order. A chunk takes some channels of a group and one part, gathers a slice of
// positions (conv_gather.h) and multiplies tiles. All cuts follow from the sizes. 16-bit types go
// through float32. Cost: 2·n·o·oh·ow·c/groups·kh·kw operations.
#include "cpu/conv_gather.h"
#include "cpu/conv_parts.h"
#include "cpu/gemm_pack.h"
#include "cpu/launch.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kPositions = 256;          // of a slice
constexpr int64_t kBlockElements = 1 << 17;  // of sums in a block: they stay in L2
constexpr int64_t kManyChunks = 32;
constexpr int64_t kChunkWork = 1 << 20;     // multiplications worth a chunk of their own
constexpr int64_t kPartElements = 1 << 23;  // of all partial sums

// dWᵀ[(c, a, b), o] of a group, in parts.
struct WeightGradient {
  const void* x;
  const void* dy;
  void* sums;  // [part][group][rows][stride]
  Patches patches;
  int64_t images, groups, channels, outputs, positions;
  int64_t depth, slices;  // positions in a slice; slices in an image
  int64_t parts, part_slices;
  int64_t block_channels, blocks, group_channels;  // gathered at once: some tiles, in L1
  int64_t rows, stride;  // channels·taps; outputs, rounded to whole vectors
};

template <class T, class S>
void weight_kernel(const void* args, int64_t chunk) {
  constexpr bool kNative = sizeof(T) == sizeof(S);
  const WeightGradient& p = *static_cast<const WeightGradient*>(args);
  const int64_t taps = tap_count(p.patches);
  const int64_t c0 = chunk % p.blocks * p.block_channels;
  chunk /= p.blocks;
  const int64_t group = chunk % p.groups, part = chunk / p.groups;
  const int64_t c_end = smaller(c0 + p.block_channels, p.channels);
  const int64_t pitch = round_up(p.depth, kLanes<T>) + kLanes<T>;
  const int64_t gathered_size = p.group_channels * taps * pitch;
  const int64_t panels_size = p.stride * p.depth;
  const int64_t buffer_size = kNative ? 0 : kColumns<T> * p.depth;
  T* const gathered = static_cast<T*>(thread_scratch(
      sizeof(T) * (gathered_size + panels_size + buffer_size) + sizeof(Run) * (p.depth + 2) + 64));
  if (!gathered) fail("conv2d: out of memory for packing");
  T* const panels = gathered + gathered_size;
  T* const buffer = panels + panels_size;
  Run* const runs =
      reinterpret_cast<Run*>(gathered + round_up(gathered_size + panels_size + buffer_size, 8));
  T* const sums = static_cast<T*>(p.sums) + (part * p.groups + group) * p.rows * p.stride;

  const int64_t first = part * p.part_slices;
  const int64_t last = smaller(first + p.part_slices, p.images * p.slices);
  for (int64_t slice = first; slice < last; ++slice) {
    const int64_t image = slice / p.slices, at = slice % p.slices * p.depth;
    const int64_t depth = smaller(p.depth, p.positions - at);
    const int64_t run_count = make_runs<T>(p.patches, at, depth, 0, pitch, runs);
    const S* const dy =
        static_cast<const S*>(p.dy) + (image * p.groups + group) * p.outputs * p.positions + at;
    for (int64_t j = 0; j < p.outputs; j += kColumns<T>) {
      const int64_t there = smaller(kColumns<T>, p.outputs - j);
      pack_panel(dy + j * p.positions, p.positions, 1, there, depth, panels + j * depth,
                 round_up(there, kLanes<T>), buffer);
    }
    const S* const x =
        static_cast<const S*>(p.x) + (image * p.groups + group) * p.channels * p.patches.plane;
    for (int64_t c = c0; c < c_end; c += p.group_channels) {
      const int64_t channels = smaller(p.group_channels, c_end - c);
      gather<T, S>(p.patches, x + c * p.patches.plane, channels, runs, run_count, gathered);
      const Tiles tiles = tiles_of(channels * taps);
      const T* rows = gathered;
      T* target = sums + c * taps * p.stride;
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int64_t height = tiles.height + (t < tiles.taller);
        for (int64_t j = 0; j < p.outputs; j += kColumns<T>) {
          const int64_t width = round_up(smaller(kColumns<T>, p.outputs - j), kLanes<T>);
          const MicroKernel<T> kernel =
              kKernels<T>.get(true, static_cast<int>(width / kLanes<T>), static_cast<int>(height));
          kernel(depth, rows, pitch, panels + j * depth, width, target + j, p.stride,
                 slice > first);
        }
        rows += height * pitch;
        target += height * p.stride;
      }
    }
  }
}

template <class T, class S>
void backward_weight_as(Stream& stream, const ConvShape& s, const void* x, const void* dy,
                        void* dw) {
  WeightGradient p = {};
  p.x = x;
  p.dy = dy;
  p.patches = patches_of(s);
  p.images = s.n;
  p.groups = s.groups;
  p.channels = s.c / s.groups;
  p.outputs = s.o / s.groups;
  p.positions = s.oh * s.ow;
  const int64_t taps = s.kh * s.kw;
  p.rows = p.channels * taps;
  p.stride = round_up(p.outputs, kLanes<T>);
  p.depth = smaller(p.positions, kPositions);
  p.slices = divide_up(p.positions, p.depth);
  p.depth = divide_up(p.positions, p.slices);
  p.slices = divide_up(p.positions, p.depth);
  p.group_channels = smaller(p.channels, larger(1, 2 * kRows / taps));
  // Sums of a block stay in L2.
  p.block_channels = larger(1, kBlockElements / (taps * p.stride));
  p.block_channels = smaller(p.channels, round_up(p.block_channels, p.group_channels));
  p.blocks = divide_up(p.channels, p.block_channels);

  const int64_t all = p.images * p.slices;
  const int64_t work = p.block_channels * taps * p.outputs * p.depth;
  const int64_t useful = divide_up(kManyChunks, p.groups * p.blocks);
  const int64_t fitting = larger(1, kPartElements / (p.groups * p.rows * p.stride));
  p.parts = smaller(smaller(useful, fitting), larger(1, all * work / kChunkWork));
  p.part_slices = larger(1, divide_up(all, p.parts));
  p.parts = divide_up(all, p.part_slices);

  const Scratch sums(stream, sizeof(T) * larger(1, p.parts * p.groups * p.rows * p.stride));
  p.sums = sums.data();
  if (p.parts > 0) {
    launch(stream, "conv_weight", weight_kernel<T, S>, &p, sizeof p, p.parts * p.groups * p.blocks);
  }
  add_parts<T, S>(stream,
                  {p.sums, dw, p.parts, p.groups, p.outputs, p.channels, taps, p.stride, false});
}

}  // namespace

void conv_weight_gradient(Stream& stream, const ConvShape& s, const void* x, const void* dy,
                          void* dw) {
  with_floats("conv2d", s.dtype, [&](auto t, auto stored) {
    backward_weight_as<decltype(t), decltype(stored)>(stream, s, x, dy, dw);
  });
}

}  // namespace nodegrad::cpu::NODEGRAD_ISA
