// Blocks that wait for each other's words (cooperative.h): they meet under every seed, and a word
// that nobody sends is reported instead of waited for.
#include "cooperative.h"
#include "harness.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

constexpr int kBlocks = 3, kThreads = 32, kRounds = 5;

// Each round every block sends its sum of what it has received to all, so sums grow by kBlocks.
// words: [2][block][thread], two neighbours are read together.
template <bool kSilent>
__global__ void __launch_bounds__(kThreads) gossip_kernel(uint64_t* words, uint32_t* y) {
  auto& shared = shared_memory<uint32_t[kThreads]>();
  const int t = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  uint32_t sum = static_cast<uint32_t>(block);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    uint64_t* const now = words + (round & 1) * kBlocks * kThreads;
    if (!kSilent || block != 2 || round != 4) store_word(now + block * kThreads + t, sum, round);
    Vector<uint64_t, 2> found[kBlocks];
    await_words(found, round, [&](int i) { return now + i * kThreads + t / 2 * 2; });
    sum = 0;
    for (int i = 0; i < kBlocks; ++i) sum += static_cast<uint32_t>(found[i][t % 2]);
    shared[t] = sum;
    __syncthreads();
    sum = shared[kThreads - 1 - t];
    __syncthreads();
  }
  y[block * kThreads + t] = sum;
}

template <bool kSilent>
void run_gossip() {
  auto stream = harness::make_stream();
  Buffer<uint64_t> words(2 * kBlocks * kThreads);
  Buffer<uint32_t> y(kBlocks * kThreads);
  for (int time = 0; time < 2; ++time) {
    clear_words(*stream, "gossip", words.data(), 2 * kBlocks * kThreads);
    launch_cooperative(*stream, "gossip", gossip_kernel<kSilent>, kBlocks, kThreads,
                       kThreads * sizeof(uint32_t), words.data(), y.data());
    // 0 + 1 + 2, then three times as much in each round.
    for (uint32_t sum : y.read(*stream)) EXPECT(sum == 3 * 3 * 3 * 3 * 3);
  }
}

CASE(words_reach_all_blocks) { run_gossip<false>(); }
CASE(word_that_is_not_sent) { expect_error(run_gossip<true>, "waits without end"); }

CASE(cooperative_launch_is_captured) {
  auto stream = harness::make_stream();
  Buffer<uint64_t> words(2 * kBlocks * kThreads);
  Buffer<uint32_t> y(kBlocks * kThreads);
  stream->begin_capture();
  clear_words(*stream, "gossip", words.data(), 2 * kBlocks * kThreads);
  launch_cooperative(*stream, "gossip", gossip_kernel<false>, kBlocks, kThreads,
                     kThreads * sizeof(uint32_t), words.data(), y.data());
  auto graph = stream->end_capture();
  for (int time = 0; time < 3; ++time) graph->replay(*stream);
  for (uint32_t sum : y.read(*stream)) EXPECT(sum == 3 * 3 * 3 * 3 * 3);
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
