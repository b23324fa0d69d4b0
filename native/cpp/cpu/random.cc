// Random draws. Element i of a draw takes word i%4 of Philox4x32-10 (core/philox.h) with key =
// seed and counter = offset + i/4; `state` is int64[2] {seed, offset}, read when the kernel runs.
//
// uniform: low + (high - low)·u in float32, u in [0,1). bernoulli: u < p, compared in double.
// normal: Box-Muller on the word pairs (0,1) and (2,3): r = √(-2 ln u1), angle 2π·u2, u1 in (0,1];
// the pair is r·cos, r·sin, in double; mean + std·z is then rounded. (Box and Muller, 1958.)
// Values are drawn in float32, then widened or rounded to out's dtype.
// Cost: 0.25 Philox blocks an element; normals are bound by libm's log, sin and cos.
#include "core/backend.h"
#include "core/philox.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

struct DrawArgs {
  void* out;
  int64_t size;
  const int64_t* state;
  void (*store)(const float* values, void* out, int64_t begin, int64_t n);
  double first, second;  // low and high, mean and standard deviation, or probability
};

// The words of elements begin … begin + kBlock - 1; begin is a multiple of 4.
void draw_words(const int64_t* state, int64_t begin, uint32_t (&words)[kBlock]) {
  const uint64_t key = static_cast<uint64_t>(state[0]);
  const uint64_t counter = static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(begin / 4);
  for (int64_t j = 0; j < kBlock / 4; ++j) {
    const Philox4 r = philox(key, counter + static_cast<uint64_t>(j));
    words[4 * j] = r.word[0];
    words[4 * j + 1] = r.word[1];
    words[4 * j + 2] = r.word[2];
    words[4 * j + 3] = r.word[3];
  }
}

struct Uniform {
  static void draw(const DrawArgs& a, const uint32_t (&words)[kBlock], float (&values)[kBlock]) {
    const float low = static_cast<float>(a.first);
    const float width = static_cast<float>(a.second - a.first);
    for (int64_t j = 0; j < kBlock; ++j) values[j] = low + width * uniform_from_bits(words[j]);
  }
};

struct Normal {
  static void draw(const DrawArgs& a, const uint32_t (&words)[kBlock], float (&values)[kBlock]) {
    constexpr double two_pi = 6.283185307179586477;
    for (int64_t j = 0; j < kBlock; j += 2) {
      const double u1 = static_cast<double>((words[j] >> 8) + 1u) * 0x1p-24;
      const double angle = two_pi * static_cast<double>(uniform_from_bits(words[j + 1]));
      const double radius = __builtin_sqrt(-2.0 * __builtin_log(u1));
      values[j] = static_cast<float>(a.first + a.second * (radius * __builtin_cos(angle)));
      values[j + 1] = static_cast<float>(a.first + a.second * (radius * __builtin_sin(angle)));
    }
  }
};

struct Bernoulli {
  static void draw(const DrawArgs& a, const uint32_t (&words)[kBlock], float (&values)[kBlock]) {
    for (int64_t j = 0; j < kBlock; ++j) {
      const double u = static_cast<double>(uniform_from_bits(words[j]));
      values[j] = u < a.first ? 1.0f : 0.0f;
    }
  }
};

template <class Draw>
void draw_kernel(const void* raw, int64_t chunk) {
  const DrawArgs& a = *static_cast<const DrawArgs*>(raw);
  alignas(64) uint32_t words[kBlock];
  alignas(64) float values[kBlock];
  const int64_t end = min_of(a.size, (chunk + 1) * kChunk);
  for (int64_t at = chunk * kChunk; at < end; at += kBlock) {
    draw_words(a.state, at, words);
    Draw::draw(a, words, values);
    a.store(values, a.out, at, min_of(kBlock, end - at));
  }
}

template <class T>
void store_values(const float* values, void* out, int64_t begin, int64_t n) {
  T* to = static_cast<T*>(out) + begin;
  for (int64_t j = 0; j < n; ++j) to[j] = Conversion<T, float>::convert(values[j]);
}

using Store = void (*)(const float*, void*, int64_t, int64_t);
constexpr Store kStores[kDTypes] = {
    store_values<float>,   store_values<double>,  store_values<BFloat16>, store_values<Float16>,
    store_values<int32_t>, store_values<int64_t>, store_values<uint8_t>,  store_values<Bool>};

void draw(Stream& stream, const char* name, Kernel kernel, const View& out, const View& state,
          double first, double second) {
  DrawArgs args;
  args.out = out.data;
  args.size = element_count(out);
  args.state = static_cast<const int64_t*>(state.data);
  args.store = kStores[static_cast<int>(out.dtype)];
  args.first = first;
  args.second = second;
  if (args.size == 0) return;
  launch(stream, name, kernel, &args, sizeof args, chunk_count(args.size));
}

void uniform(Stream& stream, const View& out, const View& state, double low, double high) {
  draw(stream, "uniform", draw_kernel<Uniform>, out, state, low, high);
}

void normal(Stream& stream, const View& out, const View& state, double mean, double std) {
  draw(stream, "normal", draw_kernel<Normal>, out, state, mean, std);
}

void bernoulli(Stream& stream, const View& out, const View& state, double probability) {
  draw(stream, "bernoulli", draw_kernel<Bernoulli>, out, state, probability, 0.0);
}

struct AdvanceArgs {
  int64_t* state;
  int64_t counters;
};

void advance_kernel(const void* raw, int64_t) {
  const AdvanceArgs& a = *static_cast<const AdvanceArgs*>(raw);
  const uint64_t sum = static_cast<uint64_t>(a.state[1]) + static_cast<uint64_t>(a.counters);
  a.state[1] = static_cast<int64_t>(sum);
}

void advance_state(Stream& stream, const View& state, int64_t counters) {
  const AdvanceArgs args = {static_cast<int64_t*>(state.data), counters};
  launch(stream, "random_advance", advance_kernel, &args, sizeof args, 1);
}

}  // namespace

extern const RandomFamily random_family;
const RandomFamily random_family = {uniform, normal, bernoulli, advance_state};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
