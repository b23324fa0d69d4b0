// Times the CPU matrix product against oneDNN and OpenBLAS, interleaved, where they are installed.
//
//   gemm [seconds per shape] [threads ...]
//
// Per shape (M x N x K, T: transposed): GFLOP/s of ours, best and median; the share of the peak
// that this core reached in the same run with independent multiply-adds; the same for the rivals,
// and our best time over theirs. One thread is timed by its CPU time, more by the clock. Links
// core/executor.cc, core/error.cc, cpu/gemm.cc and cpu/gemm_micro.cc, all compiled for one
// instruction set: NODEGRAD_ISA is v2, v3 or v4.
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <string>
#include <thread>
#include <vector>

#include "core/backend.h"
#include "core/error.h"
#include "core/executor.h"

namespace nodegrad {

class Stream {
 public:
  struct Scratch {
    void* data;
    size_t bytes;
    bool used;
  };
  std::vector<Scratch> scratch;
};

namespace cpu {

namespace NODEGRAD_ISA {
extern const GemmFamily gemm_family;
// What sums a bias's gradient, which no shape asks for.
extern const ReduceFamily reduce_family;
extern const BinaryFamily binary_family;
const ReduceFamily reduce_family = {};
const BinaryFamily binary_family = {};
}  // namespace NODEGRAD_ISA

void launch(Stream&, const char*, Kernel kernel, const void* args, size_t bytes, int64_t chunks) {
  alignas(16) char copy[1024];
  if (bytes > sizeof copy) fail("launch: arguments must fit, got %zu bytes", bytes);
  std::memcpy(copy, args, bytes);
  Executor::instance().run(kernel, copy, chunks);
}

void* borrow(Stream& stream, size_t bytes) {
  if (bytes == 0) return nullptr;
  for (auto& s : stream.scratch) {
    if (s.used || s.bytes < bytes) continue;
    s.used = true;
    return s.data;
  }
  const size_t rounded = (bytes + 4095) / 4096 * 4096;
  stream.scratch.push_back({std::aligned_alloc(4096, rounded), rounded, true});
  return stream.scratch.back().data;
}

Scratch::Scratch(Stream& stream, size_t bytes) : stream_(stream), data_(borrow(stream, bytes)) {}
Scratch::~Scratch() {
  for (auto& s : stream_.scratch) s.used = s.used && s.data != data_;
}

}  // namespace cpu
}  // namespace nodegrad

namespace {

using namespace nodegrad;

struct Shape {
  int64_t m, n, k;
  bool a_transposed, b_transposed;
  const char* what;
};

constexpr Shape kShapes[] = {
    {100, 256, 784, false, true, "linear 784-256"},
    {100, 128, 256, false, true, "linear 256-128"},
    {100, 10, 128, false, true, "linear 128-10"},
    {32, 1024, 256, false, true, "linear 256-1024"},
    {256, 784, 100, true, false, "its dW"},
    {100, 784, 256, false, false, "its dx"},
    {128, 768, 768, false, true, "attention projection"},
    {512, 512, 512, false, false, "square"},
    {512, 512, 512, false, true, "square"},
    {1024, 1024, 1024, false, false, "square"},
    {1000, 1000, 1000, true, false, "square"},
    {2048, 2048, 2048, false, false, "square"},
    {12288, 1024, 256, false, true, "gates of an LSTM"},
    {1024, 256, 12288, true, false, "their dW"},
    {12288, 256, 1024, false, false, "their dx"},
    {12288, 1024, 100, false, true, "gates of words"},
    {1024, 100, 12288, true, false, "their dW"},
    {12288, 100, 1024, false, false, "their dx"},
    {1, 1024, 1024, false, true, "vector-matrix"},
    {1, 1024, 1024, false, false, "vector-matrix"},
    {1024, 1, 1024, false, false, "matrix-vector"},
    {1, 4096, 4096, false, true, "vector-matrix"},
    {1, 4096, 4096, false, false, "vector-matrix"},
};

double now(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Twelve chains keep two units of latency 4 busy. Without fused instructions a multiplication and
// an addition of four lanes count as one of them.
#define NODEGRAD_TWELVE(f, r)                                                                  \
  f(r, 4) f(r, 5) f(r, 6) f(r, 7) f(r, 8) f(r, 9) f(r, 10) f(r, 11) f(r, 12) f(r, 13) f(r, 14) \
      f(r, 15)
#define NODEGRAD_FMA(r, i) "vfmadd231ps %%" r "0, %%" r "1, %%" r #i "\n"
#define NODEGRAD_MUL(r, i) "mulps %%xmm0, %%xmm" #i "\n"
#define NODEGRAD_ADD(r, i) "addps %%xmm1, %%xmm" #i "\n"
#define NODEGRAD_LOOP(body)                                                                  \
  asm volatile("1:\n" body "dec %0\njnz 1b"                                                  \
               : "+r"(left)::"xmm0", "xmm1", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                 "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define NODEGRAD_TEXT(name) #name
#define NODEGRAD_NAME(name) NODEGRAD_TEXT(name)
const std::string isa = NODEGRAD_NAME(NODEGRAD_ISA);

double peak_flops() {
  constexpr int kSteps = 20000;
  double best = 1e9;
  for (int round = 0; round < 50; ++round) {
    long left = kSteps;
    const double start = now(CLOCK_THREAD_CPUTIME_ID);
    if (isa == "v4") {
      NODEGRAD_LOOP(NODEGRAD_TWELVE(NODEGRAD_FMA, "zmm"));
    } else if (isa == "v3") {
      NODEGRAD_LOOP(NODEGRAD_TWELVE(NODEGRAD_FMA, "ymm"));
    } else {
      NODEGRAD_LOOP(NODEGRAD_TWELVE(NODEGRAD_MUL, ) NODEGRAD_TWELVE(NODEGRAD_ADD, ));
    }
    best = std::min(best, (now(CLOCK_THREAD_CPUTIME_ID) - start) / kSteps);
  }
  return 2.0 * 12 * (isa == "v4" ? 16 : isa == "v3" ? 8 : 4) / best;
}

using DnnlSgemm = int (*)(char, char, long, long, long, float, const float*, long, const float*,
                          long, float, float*, long);
using CblasSgemm = void (*)(int, int, int, int, int, int, float, const float*, int, const float*,
                            int, float, float*, int);

void* open_first(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (void* library = dlopen(name, RTLD_NOW | RTLD_GLOBAL)) return library;
  }
  return nullptr;
}

struct Rivals {
  DnnlSgemm dnnl = nullptr;
  CblasSgemm cblas = nullptr;
  void (*omp_threads)(int) = nullptr;
  void (*openblas_threads)(int) = nullptr;

  Rivals() {
    if (void* library = open_first({"libdnnl.so.3", "libdnnl.so.2"})) {
      dnnl = reinterpret_cast<DnnlSgemm>(dlsym(library, "dnnl_sgemm"));
      omp_threads = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "omp_set_num_threads"));
    }
    if (void* library = open_first({"libopenblas.so.0"})) {
      cblas = reinterpret_cast<CblasSgemm>(dlsym(library, "cblas_sgemm"));
      openblas_threads =
          reinterpret_cast<void (*)(int)>(dlsym(library, "openblas_set_num_threads"));
    }
  }
  void set_threads(int threads) const {
    if (omp_threads) omp_threads(threads);
    if (openblas_threads) openblas_threads(threads);
  }
};

struct Timing {
  std::vector<double> seconds;
  double best() const { return *std::min_element(seconds.begin(), seconds.end()); }
  double median() {
    std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
    return seconds[seconds.size() / 2];
  }
};

// Calls in a row, as in a training step, and their mean. OpenMP's threads spin for a while after
// their last call; a pause keeps them from the next library's time.
template <class Call>
void measure(Timing& timing, int threads, int calls, Call call) {
  const clockid_t clock = threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC;
  if (threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  call();
  const double start = now(clock);
  for (int i = 0; i < calls; ++i) call();
  timing.seconds.push_back((now(clock) - start) / calls);
}

void bench(const Shape& s, const Rivals& rivals, int threads, double seconds, double peak) {
  std::vector<float> a(s.m * s.k), b(s.k * s.n), c(s.m * s.n);
  for (size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(i % 17) - 8;
  for (size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(i % 13) - 6;
  GemmArgs args = {};
  args.a = a.data();
  args.b = b.data();
  args.c = c.data();
  args.m = s.m;
  args.n = s.n;
  args.k = s.k;
  args.batch = 1;
  args.a_row = s.a_transposed ? 1 : s.k;
  args.a_col = s.a_transposed ? s.m : 1;
  args.b_row = s.b_transposed ? 1 : s.n;
  args.b_col = s.b_transposed ? s.k : 1;
  args.c_row = s.n;
  args.dtype = DType::float32;
  const long lda = s.a_transposed ? s.m : s.k, ldb = s.b_transposed ? s.k : s.n;

  Stream stream;
  Timing own, dnnl, cblas;
  const double flops = 2.0 * s.m * s.n * s.k;
  const int calls = static_cast<int>(std::clamp(5e8 / flops, 2.0, 200.0));
  const double end = now(CLOCK_MONOTONIC) + seconds;
  do {
    measure(own, threads, calls, [&] { cpu::NODEGRAD_ISA::gemm_family.gemm(stream, args); });
    if (rivals.dnnl) {
      measure(dnnl, threads, calls, [&] {
        rivals.dnnl(s.a_transposed ? 'T' : 'N', s.b_transposed ? 'T' : 'N', s.m, s.n, s.k, 1,
                    a.data(), lda, b.data(), ldb, 0, c.data(), s.n);
      });
    }
    if (rivals.cblas) {
      measure(cblas, threads, calls, [&] {
        rivals.cblas(101, s.a_transposed ? 112 : 111, s.b_transposed ? 112 : 111, s.m, s.n, s.k, 1,
                     a.data(), lda, b.data(), ldb, 0, c.data(), s.n);
      });
    }
  } while (now(CLOCK_MONOTONIC) < end);
  for (auto& scratch : stream.scratch) std::free(scratch.data);

  std::printf("%d %5ldx%4ldx%4ld %c%c %-20s %7.1f (%6.1f) GF %4.0f%% of peak %8.1f us", threads,
              long(s.m), long(s.n), long(s.k), s.a_transposed ? 'T' : 'N',
              s.b_transposed ? 'T' : 'N', s.what, flops / own.best() / 1e9,
              flops / own.median() / 1e9, 100 * flops / own.best() / (peak * threads),
              own.best() * 1e6);
  const auto rival = [&](const char* name, Timing& t) {
    if (t.seconds.empty()) return;
    std::printf(" | %s %7.1f (%6.1f) time %.2fx", name, flops / t.best() / 1e9,
                flops / t.median() / 1e9, own.best() / t.best());
  };
  rival("dnnl", dnnl);
  rival("openblas", cblas);
  std::printf("\n");
}

}  // namespace

int main(int count, char** values) {
  const double seconds = count > 1 ? std::atof(values[1]) : 0.3;
  std::vector<int> threads;
  for (int i = 2; i < count; ++i) threads.push_back(std::atoi(values[i]));
  if (threads.empty()) threads = {1, Executor::instance().threads()};
  const Rivals rivals;
  for (int t : threads) {
    Executor::instance().set_threads(t);
    rivals.set_threads(t);
    const double peak = peak_flops();
    std::printf("%s, %d threads, peak of a core %.1f GFLOP/s\n", isa.c_str(), t, peak / 1e9);
    for (const Shape& shape : kShapes) bench(shape, rivals, t, seconds, peak);
  }
}
