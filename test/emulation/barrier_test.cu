// Barriers, races and uninitialised reads in shared memory: each faulty kernel is caught under
// every seed, and its corrected form passes.
#include "harness.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

constexpr int kThreads = 128;
struct Values {
  int v[kThreads];
};

enum class Fault { none, missing, divergent, other_place, exit_before, uninitialised };

template <Fault kFault>
__global__ void __launch_bounds__(kThreads) rotate_kernel(const int* x, int* y) {
  Values& s = shared_memory<Values>();
  const int t = static_cast<int>(threadIdx.x);
  if (kFault == Fault::exit_before && t == 77) return;
  if (kFault != Fault::uninitialised || t != 5) s.v[t] = x[t];
  if (kFault == Fault::divergent) {
    if (t < 100) __syncthreads();
  } else if (kFault == Fault::other_place) {
    if (t < 64) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (kFault != Fault::missing) {
    __syncthreads();
  }
  y[t] = s.v[(t + 1) % kThreads];
}

template <Fault kFault>
void run_rotate() {
  auto stream = harness::make_stream();
  Buffer<int> x(kThreads), y(kThreads);
  std::vector<int> values(kThreads);
  for (int i = 0; i < kThreads; ++i) values[static_cast<size_t>(i)] = 3 * i;
  x.write(*stream, values);
  launch(*stream, "rotate", rotate_kernel<kFault>, 1, kThreads, sizeof(Values), x.data(), y.data());
  stream->synchronize();
  const std::vector<int> result = y.read(*stream);
  for (int i = 0; i < kThreads; ++i) {
    EXPECT(result[static_cast<size_t>(i)] == 3 * ((i + 1) % kThreads));
  }
}

CASE(barrier_is_there) { run_rotate<Fault::none>(); }
CHECKED_CASE(missing_barrier) { expect_error(run_rotate<Fault::missing>, "rotate: thread"); }
CHECKED_CASE(missing_barrier_says_why) {
  std::string what;
  try {
    run_rotate<Fault::missing>();
  } catch (const std::exception& error) {
    what = error.what();
  }
  const bool race = what.find("no barrier in between") != std::string::npos;
  const bool early = what.find("which no thread has written") != std::string::npos;
  EXPECT(race || early);
}
CASE(divergent_barrier) {
  // Without the checks of memory, which would speak first.
  const harness::WithoutChecks unchecked;
  expect_error(run_rotate<Fault::divergent>, "for threads that never come: 28 have exited");
}
CASE(barriers_at_two_places) {
  expect_error(run_rotate<Fault::other_place>, "while other threads of the block wait at");
}
CASE(exit_before_a_barrier) { expect_error(run_rotate<Fault::exit_before>, "1 have exited"); }
CHECKED_CASE(uninitialised_shared_read) {
  expect_error(run_rotate<Fault::uninitialised>, "offset 20, which no thread has written");
}

// A failure is reported once; the device works on.
CASE(works_on_after_a_failure) {
  expect_error(run_rotate<Fault::divergent>, "rotate");
  run_rotate<Fault::none>();
}

// Tree reduction, where the barrier inside the loop is the one to forget.
template <bool kInside>
__global__ void __launch_bounds__(kThreads) tree_kernel(int* y) {
  Values& s = shared_memory<Values>();
  const unsigned t = threadIdx.x;
  s.v[t] = static_cast<int>(t);
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (t < half) s.v[t] += s.v[t + half];
    if (kInside) __syncthreads();
  }
  if (!kInside) __syncthreads();
  if (t == 0) y[blockIdx.x] = s.v[0];
}

template <bool kInside>
void run_tree() {
  auto stream = harness::make_stream();
  Buffer<int> y(3);
  launch(*stream, "tree", tree_kernel<kInside>, 3, kThreads, sizeof(Values), y.data());
  for (int sum : y.read(*stream)) EXPECT(sum == kThreads * (kThreads - 1) / 2);
}

CASE(tree_with_barriers) { run_tree<true>(); }
CHECKED_CASE(tree_without_inner_barrier) { expect_error(run_tree<false>, "no barrier in between"); }

// A warp's own exchange through shared memory needs __syncwarp.
template <bool kSync>
__global__ void __launch_bounds__(kThreads) warp_exchange_kernel(int* y) {
  Values& s = shared_memory<Values>();
  const unsigned t = threadIdx.x;
  s.v[t] = static_cast<int>(t);
  if (kSync) __syncwarp();
  const int other = s.v[t ^ 1];
  if (kSync) __syncwarp();
  s.v[t] = other * 2;
  y[t] = s.v[t];
}

template <bool kSync>
void run_warp_exchange() {
  auto stream = harness::make_stream();
  Buffer<int> y(kThreads);
  launch(*stream, "warp_exchange", warp_exchange_kernel<kSync>, 1, kThreads, sizeof(Values),
         y.data());
  const std::vector<int> result = y.read(*stream);
  for (int i = 0; i < kThreads; ++i) EXPECT(result[static_cast<size_t>(i)] == 2 * (i ^ 1));
}

CASE(warp_barrier) { run_warp_exchange<true>(); }
CHECKED_CASE(missing_warp_barrier) {
  expect_error(run_warp_exchange<false>, "warp_exchange: thread");
}

// Two producer warps fill a buffer for two consumer warps: barrier 1 says full, 2 says empty.
enum class Handshake { right, no_full, no_empty, wrong_count };
template <Handshake kForm>
__global__ void __launch_bounds__(kThreads) handshake_kernel(int* y) {
  Values& s = shared_memory<Values>();
  const int t = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 3; ++round) {
    if (t < 64) {
      if (round > 0 && kForm != Handshake::no_empty) named_barrier_sync(2, 128);
      s.v[t] = round * 100 + t;
      if (kForm != Handshake::no_full) named_barrier_arrive(1, 128);
    } else {
      if (kForm != Handshake::no_full) {
        named_barrier_sync(1, kForm == Handshake::wrong_count ? 96 : 128);
      }
      y[round * 64 + t - 64] = s.v[127 - t];
      if (round < 2 && kForm != Handshake::no_empty) named_barrier_arrive(2, 128);
    }
  }
}

template <Handshake kForm>
void run_handshake() {
  auto stream = harness::make_stream();
  Buffer<int> y(192);
  launch(*stream, "handshake", handshake_kernel<kForm>, 1, kThreads, sizeof(Values), y.data());
  const std::vector<int> result = y.read(*stream);
  for (int i = 0; i < 192; ++i) {
    EXPECT(result[static_cast<size_t>(i)] == i / 64 * 100 + 63 - i % 64);
  }
}

CASE(named_barriers) { run_handshake<Handshake::right>(); }
CHECKED_CASE(named_barrier_missing_full) {
  expect_error(run_handshake<Handshake::no_full>, "handshake");
}
CHECKED_CASE(named_barrier_missing_empty) {
  expect_error(run_handshake<Handshake::no_empty>, "handshake");
}
CASE(named_barrier_wrong_count) {
  expect_error(run_handshake<Handshake::wrong_count>, "named barrier 1");
}

__global__ void votes_kernel(int* y) {
  const int t = static_cast<int>(threadIdx.x);
  const int count = __syncthreads_count(t % 3 == 0);
  const int any = __syncthreads_or(t == 9);
  const int all = __syncthreads_and(t != 9);
  if (t == 0) y[0] = count, y[1] = any, y[2] = all;
}

CASE(barrier_votes) {
  auto stream = harness::make_stream();
  Buffer<int> y(3);
  launch(*stream, "votes", votes_kernel, 1, 96, 0, y.data());
  const std::vector<int> result = y.read(*stream);
  EXPECT(result[0] == 32 && result[1] == 1 && result[2] == 0);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
