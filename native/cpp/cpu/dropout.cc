// Dropout: y = x·scale where element i of a uniform draw is below `keep`, else 0; backward
// dx = dy·scale by the same choice. Draws as in random.cc: word i%4 of Philox4x32-10 with key =
// seed and counter = offset + i/4, `state` being int64[2] {seed, offset}.
//
// The choice is kept as a byte per element: a quarter of a float, and the backward pass is bound by
// bandwidth, where drawing again would cost it the ten rounds of Philox a second time.
// Arithmetic in float32 or float64.
#include "core/backend.h"
#include "core/philox.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int64_t kPerChunk = 16384;

struct DropoutArgs {
  const void* in;  // x, or dy
  void* out;
  uint8_t* mask;
  const int64_t* state;
  LoadRow load;
  StoreRow store;  // null where elements are stored as they compute
  int64_t size, bytes;
  double scale;
  uint32_t threshold;  // kept where the upper 24 bits of the word are below it
};

// mask[begin …]: begin is a multiple of 4, and so is n up to the end of the draw.
void draw_mask(const DropoutArgs& a, int64_t begin, int64_t n) {
  alignas(64) uint32_t words[4][kBlock / 4];
  const uint64_t key = static_cast<uint64_t>(a.state[0]);
  const uint64_t counter = static_cast<uint64_t>(a.state[1]) + static_cast<uint64_t>(begin / 4);
  for (int64_t j = 0; j < kBlock / 4; ++j) {
    const Philox4 r = philox(key, counter + static_cast<uint64_t>(j));
    for (int k = 0; k < 4; ++k) words[k][j] = r.word[k];
  }
  alignas(64) uint8_t kept[kBlock];
  for (int64_t j = 0; j < kBlock / 4; ++j) {
    for (int k = 0; k < 4; ++k) kept[4 * j + k] = words[k][j] >> 8 < a.threshold;
  }
  __builtin_memcpy(a.mask + begin, kept, static_cast<size_t>(n));
}

template <class T, bool draws>
void dropout_kernel(const void* raw, int64_t chunk) {
  const DropoutArgs& a = *static_cast<const DropoutArgs*>(raw);
  alignas(64) T values[kBlock], results[kBlock];
  const T scale = static_cast<T>(a.scale);
  const int64_t end = min_of(a.size, (chunk + 1) * kPerChunk);
  for (int64_t at = chunk * kPerChunk; at < end; at += kBlock) {
    const int64_t n = min_of(kBlock, end - at);
    if (draws) draw_mask(a, at, n);
    const uint8_t* mask = a.mask + at;
    const void* from = advance_by(a.in, at * a.bytes);
    void* to = advance_by(a.out, at * a.bytes);
    const T* x = static_cast<const T*>(from);
    if (a.store) {
      a.load(from, 1, values, n);
      x = values;
    }
    T* y = a.store ? results : static_cast<T*>(to);
#pragma GCC ivdep
    for (int64_t j = 0; j < n; ++j) {
      const T scaled = x[j] * scale;
      y[j] = mask[j] ? scaled : T(0);
    }
    if (a.store) a.store(results, to, n);
  }
}

DropoutArgs dropout_args(const View& in, const View& mask, double scale, const View& out) {
  DropoutArgs a{};
  a.in = in.data;
  a.out = out.data;
  a.mask = static_cast<uint8_t*>(mask.data);
  a.load = row_loader(in.dtype);
  a.store = row_storer(in.dtype);
  a.size = element_count(in);
  a.bytes = static_cast<int64_t>(item_size(in.dtype));
  a.scale = scale;
  return a;
}

void forward(Stream& stream, const View& x, const View& state, double keep, double scale,
             const View& y, const View& mask) {
  DropoutArgs a = dropout_args(x, mask, scale, y);
  a.state = static_cast<const int64_t*>(state.data);
  a.threshold = static_cast<uint32_t>(__builtin_ceil(keep * 0x1p24));
  if (a.size == 0) return;
  launch(stream, "dropout",
         x.dtype == DType::float64 ? dropout_kernel<double, true> : dropout_kernel<float, true>, &a,
         sizeof a, chunk_count(a.size, kPerChunk));
}

void backward(Stream& stream, const View& mask, const View& dy, double scale, const View& dx) {
  const DropoutArgs a = dropout_args(dy, mask, scale, dx);
  if (a.size == 0) return;
  launch(stream, "dropout_backward",
         dy.dtype == DType::float64 ? dropout_kernel<double, false> : dropout_kernel<float, false>,
         &a, sizeof a, chunk_count(a.size, kPerChunk));
}

}  // namespace

extern const DropoutFamily dropout_family;
const DropoutFamily dropout_family = {forward, backward};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
