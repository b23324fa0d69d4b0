// Draws that need more than one number each: permutations, classes by weight, masks of their own
// probabilities, truncated normals. Numbers as core/families/sample.h has them.
//
// permutation: sorts 0 … N-1 by random keys of 64 bits: into buckets by their first bits, which are
// even, then each in its place among a few neighbours.
// multinomial with replacement: the row's weights are summed in 256 parts, each in order, the parts
// in order; u·total falls into one part, which is walked: all devices add alike, in double.
// Without: the classes of the smallest -log(u)/w, ascending (Efraimidis and Spirakis, "Weighted
// random sampling with a reservoir", 2006), kept in a heap.
// truncated normal: mean + std·√2·erfinv of a uniform between the ends' own values.
#include "core/backend.h"
#include "core/erfinv.h"
#include "core/philox.h"
#include "cpu/iterate.h"

namespace nodegrad::cpu::NODEGRAD_ISA {
namespace {

constexpr int kParts = 256;
constexpr int kBucketBits = 2;  // about 2^2 numbers a bucket

Philox4 words_at(const int64_t* state, int64_t counter) {
  return philox(static_cast<uint64_t>(state[0]),
                static_cast<uint64_t>(state[1]) + static_cast<uint64_t>(counter));
}

// The first or second number of 64 bits.
uint64_t number_of(const Philox4& r, int which) {
  return static_cast<uint64_t>(r.word[2 * which]) << 32 | r.word[2 * which + 1];
}

uint64_t key_at(const int64_t* state, int64_t i) {
  return number_of(words_at(state, i / 2), static_cast<int>(i % 2));
}

struct Pair {
  uint64_t key;
  int64_t value;
};

struct PermutationArgs {
  const int64_t* state;
  int64_t* out;
  Pair* pairs;      // two times size
  int64_t* places;  // 2^bits
  int64_t size;
  int bits;
};

void keys_kernel(const void* raw, int64_t chunk) {
  const PermutationArgs& a = *static_cast<const PermutationArgs*>(raw);
  const int64_t end = min_of(a.size, (chunk + 1) * kChunk);
  for (int64_t i = chunk * kChunk; i < end; i += 2) {
    const Philox4 r = words_at(a.state, i / 2);
    a.pairs[i] = {number_of(r, 0), i};
    if (i + 1 < end) a.pairs[i + 1] = {number_of(r, 1), i + 1};
  }
}

void permutation_kernel(const void* raw, int64_t) {
  const PermutationArgs& a = *static_cast<const PermutationArgs*>(raw);
  const Pair* const from = a.pairs;
  Pair* const to = a.pairs + a.size;
  const int shift = 64 - a.bits;
  for (int64_t b = 0; b < int64_t{1} << a.bits; ++b) a.places[b] = 0;
  for (int64_t i = 0; i < a.size; ++i) ++a.places[from[i].key >> shift];
  int64_t before = 0;
  for (int64_t b = 0; b < int64_t{1} << a.bits; ++b) {
    const int64_t count = a.places[b];
    a.places[b] = before;
    before += count;
  }
  for (int64_t i = 0; i < a.size; ++i) to[a.places[from[i].key >> shift]++] = from[i];
  for (int64_t i = 1; i < a.size; ++i) {
    const Pair pair = to[i];
    int64_t j = i;
    for (; j > 0 && to[j - 1].key > pair.key; --j) to[j] = to[j - 1];
    to[j] = pair;
  }
  for (int64_t i = 0; i < a.size; ++i) a.out[i] = to[i].value;
}

void permutation(Stream& stream, const View& state, const View& out) {
  PermutationArgs a;
  a.state = static_cast<const int64_t*>(state.data);
  a.out = static_cast<int64_t*>(out.data);
  a.size = out.shape[0];
  if (a.size == 0) return;
  a.bits = 1;
  while (a.size >> (a.bits + kBucketBits) > 0) ++a.bits;
  const size_t pairs = 2 * static_cast<size_t>(a.size) * sizeof(Pair);
  const Scratch scratch(stream, pairs + (size_t{8} << a.bits));
  a.pairs = static_cast<Pair*>(scratch.data());
  a.places = static_cast<int64_t*>(advance_by(scratch.data(), static_cast<int64_t>(pairs)));
  launch(stream, "random_keys", keys_kernel, &a, sizeof a, chunk_count(a.size));
  launch(stream, "permutation", permutation_kernel, &a, sizeof a, 1);
}

struct MultinomialArgs {
  const double* weights;
  const int64_t* state;
  int64_t* out;
  Pair* heaps;  // [rows, samples]; without replacement
  int64_t classes, samples;
};

double weight_of(double w) { return w > 0.0 ? w : 0.0; }

void with_replacement_kernel(const void* raw, int64_t row) {
  const MultinomialArgs& a = *static_cast<const MultinomialArgs*>(raw);
  const double* const weights = a.weights + row * a.classes;
  const int64_t length = chunk_count(a.classes, kParts);
  double upto[kParts];
  double total = 0.0;
  for (int p = 0; p < kParts; ++p) {
    double sum = 0.0;
    const int64_t end = min_of(a.classes, (p + 1) * length);
    for (int64_t c = p * length; c < end; ++c) sum += weight_of(weights[c]);
    total += sum;
    upto[p] = total;
  }
  for (int64_t s = 0; s < a.samples; ++s) {
    const int64_t i = row * a.samples + s;
    const double wanted = static_cast<double>(key_at(a.state, i) >> 11) * 0x1p-53 * total;
    int64_t found = -1;
    int p = 0;
    while (p < kParts && !(upto[p] > wanted)) ++p;
    if (p < kParts) {
      double sum = p > 0 ? upto[p - 1] : 0.0;
      const int64_t end = min_of(a.classes, (p + 1) * length);
      for (int64_t c = p * length; c < end && !(sum > wanted); ++c) {
        sum += weight_of(weights[c]);
        if (weights[c] > 0.0) found = c;
      }
    }
    a.out[i] = found;
  }
}

bool above(const Pair& a, const Pair& b) {
  return a.key > b.key || (a.key == b.key && a.value > b.value);
}

// Moves the pair at `at` down until none below is above it.
void sift_down(Pair* heap, int64_t size, int64_t at) {
  const Pair moved = heap[at];
  for (int64_t child = 2 * at + 1; child < size; child = 2 * at + 1) {
    if (child + 1 < size && above(heap[child + 1], heap[child])) ++child;
    if (!above(heap[child], moved)) break;
    heap[at] = heap[child];
    at = child;
  }
  heap[at] = moved;
}

void without_replacement_kernel(const void* raw, int64_t row) {
  const MultinomialArgs& a = *static_cast<const MultinomialArgs*>(raw);
  Pair* const heap = a.heaps + row * a.samples;
  for (int64_t s = 0; s < a.samples; ++s) heap[s] = {~uint64_t{0}, -1};
  for (int64_t c = 0; c < a.classes; ++c) {
    const int64_t i = row * a.classes + c;
    const double weight = a.weights[i];
    if (!(weight > 0.0)) continue;
    const double u = static_cast<double>((key_at(a.state, i) >> 11) + 1) * 0x1p-53;
    const double order = -__builtin_log(u) / weight + 0.0;  // of one sign: its bits sort alike
    const Pair pair = {__builtin_bit_cast(uint64_t, order), c};
    if (!above(heap[0], pair)) continue;
    heap[0] = pair;
    sift_down(heap, a.samples, 0);
  }
  for (int64_t left = a.samples; left > 0; --left) {
    a.out[row * a.samples + left - 1] = heap[0].value;
    heap[0] = heap[left - 1];
    sift_down(heap, left - 1, 0);
  }
}

void multinomial(Stream& stream, const View& weights, const View& state, bool replacement,
                 const View& out) {
  MultinomialArgs a;
  a.weights = static_cast<const double*>(weights.data);
  a.state = static_cast<const int64_t*>(state.data);
  a.out = static_cast<int64_t*>(out.data);
  a.classes = weights.shape[1];
  a.samples = out.shape[1];
  const int64_t rows = out.shape[0];
  if (rows == 0 || a.samples == 0) return;
  if (replacement) {
    launch(stream, "multinomial", with_replacement_kernel, &a, sizeof a, rows);
    return;
  }
  const Scratch heaps(stream, static_cast<size_t>(rows * a.samples) * sizeof(Pair));
  a.heaps = static_cast<Pair*>(heaps.data());
  launch(stream, "multinomial", without_replacement_kernel, &a, sizeof a, rows);
}

struct Libm {
  double log(double x) const { return __builtin_log(x); }
  double exp(double x) const { return __builtin_exp(x); }
  double erf(double x) const { return __builtin_erf(x); }
  double sqrt(double x) const { return __builtin_sqrt(x); }
};

struct DrawArgs {
  const int64_t* state;
  const double* probability;
  void* out;
  int64_t size, bytes;
  void (*store)(const double* values, void* out, int64_t n);
  double mean, spread, low, high, from, width;  // spread: std·√2; from, width: of erf
};

template <bool truncated>
void draw_kernel(const void* raw, int64_t chunk) {
  const DrawArgs& a = *static_cast<const DrawArgs*>(raw);
  double values[kBlock];
  uint32_t words[kBlock];
  const int64_t end = min_of(a.size, (chunk + 1) * kChunk);
  for (int64_t at = chunk * kChunk; at < end; at += kBlock) {
    const int64_t n = min_of(kBlock, end - at);
    for (int64_t j = 0; j < kBlock; j += 4) {
      const Philox4 r = words_at(a.state, (at + j) / 4);
      for (int k = 0; k < 4; ++k) words[j + k] = r.word[k];
    }
    for (int64_t j = 0; j < n; ++j) {
      const double u = static_cast<double>(uniform_from_bits(words[j]));
      if (truncated) {
        const double x = a.mean + a.spread * erfinv(a.from + a.width * u, Libm{});
        values[j] = x < a.low ? a.low : x > a.high ? a.high : x;
      } else {
        values[j] = u < a.probability[at + j] ? 1.0 : 0.0;
      }
    }
    a.store(values, advance_by(a.out, at * a.bytes), n);
  }
}

template <class T>
void store_values(const double* values, void* out, int64_t n) {
  T* to = static_cast<T*>(out);
  for (int64_t j = 0; j < n; ++j) to[j] = Conversion<T, double>::convert(values[j]);
}

using Store = void (*)(const double*, void*, int64_t);
constexpr Store kStores[kDTypes] = {
    store_values<float>,   store_values<double>,  store_values<BFloat16>, store_values<Float16>,
    store_values<int32_t>, store_values<int64_t>, store_values<uint8_t>,  store_values<Bool>};

DrawArgs draw_args(const View& state, const View& out) {
  DrawArgs a = {};
  a.state = static_cast<const int64_t*>(state.data);
  a.out = out.data;
  a.size = element_count(out);
  a.bytes = static_cast<int64_t>(item_size(out.dtype));
  a.store = kStores[static_cast<int>(out.dtype)];
  return a;
}

void bernoulli(Stream& stream, const View& probability, const View& state, const View& out) {
  DrawArgs a = draw_args(state, out);
  a.probability = static_cast<const double*>(probability.data);
  if (a.size == 0) return;
  launch(stream, "bernoulli", draw_kernel<false>, &a, sizeof a, chunk_count(a.size));
}

void truncated_normal(Stream& stream, const View& state, double mean, double std, double low,
                      double high, const View& out) {
  constexpr double root2 = 1.4142135623730950488;
  DrawArgs a = draw_args(state, out);
  a.mean = mean;
  a.spread = std * root2;
  a.low = low;
  a.high = high;
  a.from = std > 0.0 ? __builtin_erf((low - mean) / a.spread) : 0.0;
  a.width = std > 0.0 ? __builtin_erf((high - mean) / a.spread) - a.from : 0.0;
  if (a.size == 0) return;
  launch(stream, "truncated_normal", draw_kernel<true>, &a, sizeof a, chunk_count(a.size));
}

}  // namespace

extern const SampleFamily sample_family;
const SampleFamily sample_family = {permutation, multinomial, bernoulli, truncated_normal};

}  // namespace nodegrad::cpu::NODEGRAD_ISA
