// Images whose channels lie apart, copied into scratch memory with their channels together where
// the pipelines of conv_last.cu then save more than the copies cost. The result is written where it
// belongs, so that nothing is copied back. Cost: twice the bytes of the images.
#include "conv_mma.h"
#include "families.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

// Rough figures of an H100, of which only the ratios matter: what a multiprocessor does in a
// microsecond. They are counted from instructions and the bytes that cross the L2 cache.
constexpr double kMultiplyAdds = 1.1e6;  // of the pipelines in 16 bits; half as many in TF32
constexpr double kGathered = 6e3;        // elements that conv_mma.cu gathers,
constexpr double kGatheredOfTaps = 4e3;  // and for the weight gradient, where neighbours lie apart
constexpr double kLaunchMicroseconds = 2;
constexpr double kBytesPerMicrosecond = 2.5e6;  // of the whole chip

int64_t elements_of_x(const ConvShape& s) { return s.n * s.c * s.h * s.w; }
int64_t elements_of_y(const ConvShape& s) { return s.n * s.o * s.oh * s.ow; }

double copy_microseconds(int64_t elements, DType dtype) {
  const double bytes = static_cast<double>(elements) * static_cast<double>(item_size(dtype));
  return kLaunchMicroseconds + 2 * bytes / kBytesPerMicrosecond;
}

// The transposing copy (copy.cu) takes channels and planes that fill a quarter of its tiles.
bool copies_quickly(int64_t channels, int64_t plane, DType dtype) {
  const int64_t least = 32 / static_cast<int64_t>(item_size(dtype));
  return channels >= least && plane >= least;
}

bool pays(Stream& stream, ConvMode mode, const ConvProblem& p) {
  const ConvShape& s = p.s;
  const bool x = mode != ConvMode::data, y = mode != ConvMode::forward;
  if (x && !copies_quickly(s.c, s.h * s.w, s.dtype)) return false;
  if (y && !copies_quickly(s.o, s.oh * s.ow, s.dtype)) return false;
  const double processors = multiprocessors(stream);
  const double elements = static_cast<double>(p.columns) * p.k * s.groups;
  const ConvTile tile = conv_mma_tile(stream, mode, p);
  const double gathered = elements * divide_up(p.rows, tile.rows);
  const double products = elements * (p.rows <= 64 ? 64 : divide_up(p.rows, 128) * 128);
  double copied = products / (kMultiplyAdds * (s.dtype == DType::float32 ? 0.5 : 1) * processors);
  if (x) copied += copy_microseconds(elements_of_x(s), s.dtype);
  if (y) copied += copy_microseconds(elements_of_y(s), s.dtype);
  const double rate = mode == ConvMode::weight ? kGatheredOfTaps : kGathered;
  return copied < gathered / (rate * processors);
}

}  // namespace

ConvCopies::~ConvCopies() {
  for (void* const copy : copies_) {
    if (copy) release_scratch(stream_, copy);
  }
}

const void* ConvCopies::copy(const void* image, int64_t channels, int64_t h, int64_t w,
                             const ConvShape& s) {
  void*& copy = copies_[copies_[0] ? 1 : 0];
  copy = acquire_scratch(stream_, item_size(s.dtype) * static_cast<size_t>(s.n * channels * h * w));
  const int64_t plane = h * w;
  const View from = {
      const_cast<void*>(image), {s.n, h, w, channels}, {channels * plane, w, 1, plane}, 4, s.dtype};
  const View to = {
      copy, {s.n, h, w, channels}, {channels * plane, w * channels, channels, 1}, 4, s.dtype};
  copy_family.copy(stream_, from, to);
  return copy;
}

void ConvCopies::take(ConvMode mode, ConvProblem& p) {
  const ConvShape& s = p.s;
  if (s.channels_last) return;
  ConvProblem part = p;
  part.x = conv_strides(true, s.c, s.h, s.w);
  part.y = conv_strides(true, s.o, s.oh, s.ow);
  // Strides cut the data gradient into problems of so many columns.
  if (mode == ConvMode::data) part.columns /= s.stride_h * s.stride_w;
  part.left = part.right = nullptr;  // copies are aligned
  if (mode != ConvMode::weight) part.left = p.left;
  if (!conv_by_runs(stream_, mode, part) || !pays(stream_, mode, part)) return;
  const bool x = mode != ConvMode::data, y = mode != ConvMode::forward;
  if (x) {
    p.right = copy(p.right, s.c, s.h, s.w, s);
    p.x = part.x;
  }
  if (y) {
    const void*& image = mode == ConvMode::weight ? p.left : p.right;
    image = copy(image, s.o, s.oh, s.ow, s);
    p.y = part.y;
  }
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
