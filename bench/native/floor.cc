// Measures what this machine can do at best, for the benchmarks to compare with.
//
//   floor THREADS SECONDS
//
// Prints one line of JSON: the FMA peak (independent chains of multiply-adds in registers, as
// float operations a second), the copy bandwidth and the read bandwidth over arrays of 2^20
// floats (bytes a second; a copy counts what it reads and what it writes). Each thread has arrays
// of its own; the figure is the sum of each thread's best slice by its CPU time, so that it stays
// a peak on a busy machine. Compiled with -march=native.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
constexpr const char* kInstructionSet = "AVX-512";
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kLanes = 8;
constexpr const char* kInstructionSet = "AVX2";
#elif defined(__aarch64__)
constexpr int kLanes = 4;
constexpr const char* kInstructionSet = "NEON";
#else
constexpr int kLanes = 4;
constexpr const char* kInstructionSet = "SSE";
#endif
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

constexpr int64_t kFloats = int64_t{1} << 20;
constexpr int kChains = 12;  // two units of latency 4 want 8
constexpr int kSteps = 20000;

double now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class T>
void keep(T& value) {
  asm volatile("" : "+m"(value)::"memory");
}

double fma_work() {
  Vector chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = Vector{} + static_cast<float>(i);
  Vector a = Vector{} + 0.5f, b = Vector{} + 1.0f;
  keep(a);
  keep(b);
  for (int step = 0; step < kSteps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = chain[i] * a + b;
  }
  for (Vector& v : chain) keep(v);
  return 2.0 * kChains * kLanes * kSteps;
}

struct Arrays {
  std::vector<float> source, target;
};

double copy_work(Arrays& arrays) {
  std::memcpy(arrays.target.data(), arrays.source.data(), arrays.source.size() * sizeof(float));
  keep(arrays.target[0]);
  return 2.0 * sizeof(float) * static_cast<double>(arrays.source.size());
}

double read_work(Arrays& arrays) {
  Vector sum[kChains] = {};
  const size_t step = size_t{kChains} * kLanes;
  for (size_t at = 0; at + step <= arrays.source.size(); at += step) {
#pragma GCC unroll 12
    for (size_t i = 0; i < kChains; ++i) {
      Vector v;
      std::memcpy(&v, &arrays.source[at + i * kLanes], sizeof v);
      sum[i] += v;
    }
  }
  for (Vector& v : sum) keep(v);
  return sizeof(float) * static_cast<double>(arrays.source.size() / step * step);
}

// The sum over the threads of each one's best rate.
template <class Work>
double best_rate(int threads, double seconds, Work work) {
  std::vector<double> best(threads, 0);
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) {
    running.emplace_back([&, t] {
      Arrays arrays;
      arrays.source.assign(kFloats, 1.0f);
      arrays.target.assign(kFloats, 0.0f);
      const double end = now(CLOCK_MONOTONIC) + seconds;
      do {
        const double start = now(CLOCK_THREAD_CPUTIME_ID);
        const double done = work(arrays);
        best[t] = std::max(best[t], done / (now(CLOCK_THREAD_CPUTIME_ID) - start));
      } while (now(CLOCK_MONOTONIC) < end);
    });
  }
  double sum = 0;
  for (int t = 0; t < threads; ++t) {
    running[t].join();
    sum += best[t];
  }
  return sum;
}

}  // namespace

int main(int count, char** values) {
  const int threads = count > 1 ? std::atoi(values[1]) : 1;
  const double seconds = (count > 2 ? std::atof(values[2]) : 0.3) / 3;
  if (threads < 1 || threads > 1024 || !(seconds > 0)) {
    std::fprintf(stderr, "floor: expected THREADS in [1,1024] and SECONDS above 0\n");
    return 2;
  }
  const double fma = best_rate(threads, seconds, [](Arrays&) { return fma_work(); });
  const double copy = best_rate(threads, seconds, copy_work);
  const double read = best_rate(threads, seconds, read_work);
  std::printf("{\"instructionSet\":\"%s\",\"fma\":%.4g,\"copy\":%.4g,\"read\":%.4g}\n",
              kInstructionSet, fma, copy, read);
}
