// wgmma of the emulated device (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions"):
// descriptors and swizzles are decoded bit for bit, products run between their issue and the wait.
#include <cstring>

#include "emulation/executor.h"
#include "emulation/half.h"

namespace nodegrad::emulation {

namespace {

constexpr int kRows = 64, kKBytes = 32;

// One operand as its descriptor says ("Matrix Descriptor Format", "Canonical Layouts").
struct Operand {
  uint32_t start, leading, stride;
  uint32_t chunks;  // of 16 bytes in a swizzled line: 1, 2, 4 or 8
  bool transposed;  // M or N runs along lines, else K
  uint32_t item;    // bytes

  Operand(uint64_t bits, bool transposed, uint32_t item) : transposed(transposed), item(item) {
    start = static_cast<uint32_t>(bits & 0x3fff) << 4;
    leading = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
    stride = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
    const uint32_t mode = static_cast<uint32_t>(bits >> 62);
    chunks = mode == 0 ? 1 : 16u >> mode;
    if (bits >> 49 & 7) fail_thread("wgmma: base offsets other than 0 are not emulated");
  }

  // The offset in shared memory of the 16 bytes that hold (row, k); row counts along M or N.
  uint32_t chunk_of(uint32_t row, uint32_t k) const {
    const uint32_t per_chunk = 16 / item;
    uint32_t offset;
    if (transposed) {
      const uint32_t chunk = row / per_chunk, group = chunk / chunks;
      offset = chunk % chunks * 16 + k % 8 * chunks * 16;
      offset += chunks == 1 ? group * stride + k / 8 * leading : group * leading + k / 8 * stride;
    } else {
      offset = row % 8 * chunks * 16 + row / 8 * stride;
      offset += k / per_chunk * (chunks == 1 ? leading : 16);
    }
    const uint32_t address = start + offset;
    return (address ^ ((address >> 7 & (chunks - 1)) << 4)) - kWindowStart;
  }
  uint32_t within_chunk(uint32_t row, uint32_t k) const {
    return (transposed ? row : k) % (16 / item) * item;
  }
};

float value_of(ProductType type, uint16_t bits) {
  return type == ProductType::bfloat16 ? std::bit_cast<float>(static_cast<uint32_t>(bits) << 16)
                                       : half_to_float(bits);
}

float value_at(ProductType type, const char* p) {
  if (type == ProductType::tf32) {
    uint32_t bits;
    std::memcpy(&bits, p, 4);
    return std::bit_cast<float>(bits & 0xffffe000u);
  }
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  return value_of(type, bits);
}

uint32_t item_bytes(ProductType type) { return type == ProductType::tf32 ? 4 : 2; }

void check_inside(const Block& block, uint32_t offset) {
  if (offset > block.shared_bytes || block.shared_bytes - offset < 16) {
    fail_thread("wgmma: an operand at offset %d of the block's %zu bytes of shared memory",
                static_cast<int>(offset), block.shared_bytes);
  }
}

// Element (row, k) of A in registers: four words of a lane, of rows g, g+8 and k 2t.., 2t+8.. in
// turns, in TF32 k t, t+4.
float left_value(const IssuedProduct& issued, uint32_t row, uint32_t k) {
  if (issued.product.type == ProductType::tf32) {
    const uint32_t word =
        issued.left[row / 16 * 32 + row % 8 * 4 + k % 4][k / 4 * 2 + row % 16 / 8];
    return std::bit_cast<float>(word & 0xffffe000u);
  }
  const auto& lane = issued.left[row / 16 * 32 + row % 8 * 4 + k % 8 / 2];
  const uint32_t word = lane[k / 8 * 2 + row % 16 / 8];
  return value_of(issued.product.type, static_cast<uint16_t>(word >> k % 2 * 16));
}

// Registers are read at some moment before the wait, so they must still hold what they held.
void check_left(Thread& thread, uint64_t end) {
  std::erase_if(thread.left, [&](const LeftRegisters& left) {
    if (left.product >= end) return false;
    if (std::memcmp(left.registers, left.at_issue, sizeof left.at_issue) != 0) {
      fail_thread("wgmma: registers of A have changed before the wait");
    }
    return true;
  });
}

// Tells the checks that the asynchronous proxy reads the product's operands for this warp: its rows
// of A and, for speed, a fourth of B.
void note_reads(const Block& block, const Product& p, uint32_t warp) {
  const uint32_t item = item_bytes(p.type), count = kKBytes / item, per_chunk = 16 / item;
  const Operand a(p.a, p.a_transposed, item), b(p.b, p.b_transposed, item);
  const auto note = [&](const Operand& x, uint32_t first, uint32_t end) {
    for (uint32_t row = first; row < end; row += x.transposed ? per_chunk : 1) {
      for (uint32_t k = 0; k < count; k += x.transposed ? 1 : per_chunk) {
        const uint32_t at = x.chunk_of(row, k);
        check_inside(block, at);
        shadow_proxy_read(block.shared + at, 16);
      }
    }
  };
  if (!p.a_in_registers) note(a, warp * 16, warp * 16 + 16);
  for (uint32_t row = warp * 8; row < static_cast<uint32_t>(p.n); row += 32) note(b, row, row + 8);
}

float shared_value(const Block& block, ProductType type, const Operand& x, uint32_t row,
                   uint32_t k) {
  const uint32_t at = x.chunk_of(row, k);
  check_inside(block, at);
  return value_at(type, block.shared + at + x.within_chunk(row, k));
}

__attribute__((optimize("O3"))) void run(const Block& block, const IssuedProduct& issued) {
  const Product& p = issued.product;
  const uint32_t item = item_bytes(p.type), count = kKBytes / item;
  const uint32_t n = static_cast<uint32_t>(p.n);
  const Operand a(p.a, p.a_transposed, item), b(p.b, p.b_transposed, item);
  float right[16][256], sums[256];
  for (uint32_t k = 0; k < count; ++k) {
    for (uint32_t column = 0; column < n; ++column) {
      right[k][column] = shared_value(block, p.type, b, column, k);
    }
  }
  for (uint32_t row = 0; row < kRows; ++row) {
    // D: of warp row / 16, lane 4·(row % 8) + t holds columns 8j + 2t and the next one.
    float* const* lanes = issued.d + row / 16 * 32 + row % 8 * 4;
    const uint32_t upper = row % 16 / 8 * 2;
    for (uint32_t column = 0; column < n; ++column) {
      const float* d = lanes[column % 8 / 2] + column / 8 * 4 + upper;
      sums[column] = p.accumulate ? d[column % 2] : 0.0f;
    }
    for (uint32_t k = 0; k < count; ++k) {
      const float left =
          p.a_in_registers ? left_value(issued, row, k) : shared_value(block, p.type, a, row, k);
      for (uint32_t column = 0; column < n; ++column) sums[column] += left * right[k][column];
    }
    for (uint32_t column = 0; column < n; ++column) {
      lanes[column % 8 / 2][column / 8 * 4 + upper + column % 2] = sums[column];
    }
  }
}

Warpgroup& warpgroup_of(const Thread& thread) {
  return thread.block->warpgroups[thread.linear / 128];
}

void run_until(Block& block, Warpgroup& group, uint64_t end) {
  while (group.done < end) {
    run(block, group.pending.front());
    group.pending.erase(group.pending.begin());
    ++group.done;
  }
}

}  // namespace

void product_fence() { current_thread->product_fence = true; }

void product_issue(const Product& product, float* d, const uint32_t* left) {
  Thread& thread = *current_thread;
  Block& block = *thread.block;
  if (product.n < 8 || product.n > 256 || product.n % 8 != 0) {
    fail_thread("wgmma: n is a multiple of 8 up to 256, got %d", product.n);
  }
  if (product.type == ProductType::tf32 && (product.a_transposed || product.b_transposed)) {
    fail_thread("wgmma: tf32 operands are K-major");
  }
  if (!thread.product_fence) {
    fail_thread("wgmma: no wgmma.fence since the accumulators were last touched");
  }
  if (block.threads.size() < thread.linear / 128 * 128 + 128) {
    fail_thread("wgmma: needs a whole warpgroup of 128 threads");
  }
  Warpgroup& group = warpgroup_of(thread);
  const uint64_t number = thread.products++;
  if (number - group.done == group.pending.size()) group.pending.push_back({product, 0, {}, {}});
  IssuedProduct& issued = group.pending[number - group.done];
  if (!(issued.product == product)) {
    fail_thread("wgmma: the threads of a warpgroup issue different products");
  }
  issued.d[thread.linear % 128] = d;
  if (left) {
    std::memcpy(issued.left[thread.linear % 128], left, sizeof issued.left[0]);
    LeftRegisters& kept = thread.left.emplace_back(LeftRegisters{number, left, {}});
    std::memcpy(kept.at_issue, left, sizeof kept.at_issue);
  }
  if (thread.linear % 32 == 0) note_reads(block, product, thread.linear % 128 / 32);
  if (++issued.issued < 128) return;
  for (Thread* waiter : group.waiters) release(*waiter);
  group.waiters.clear();
  if (launch_random().below(4) == 0) run_until(block, group, number + 1);
}

void product_commit(const char* file, int line) {
  warp_vote(0xffffffffu, true, file, line);  // .sync: lanes do not drift apart
  current_thread->product_groups.push_back(current_thread->products);
}

void product_wait(int groups_in_flight, const char* file, int line) {
  Thread& thread = *current_thread;
  Warpgroup& group = warpgroup_of(thread);
  auto& commits = thread.product_groups;
  const size_t kept = static_cast<size_t>(groups_in_flight);
  if (commits.size() > kept) {
    const size_t over = commits.size() - kept;
    const uint64_t end = commits[over - 1];
    check_left(thread, end);
    commits.erase(commits.begin(), commits.begin() + static_cast<ptrdiff_t>(over));
    while (group.done < end && group.pending[end - 1 - group.done].issued < 128) {
      group.waiters.push_back(&thread);
      suspend(thread, Wait::product, {file, line});
    }
    // Until now the operands must have stayed as they were.
    if (group.done < end && thread.linear % 32 == 0) {
      for (uint64_t number = group.done; number < end; ++number) {
        note_reads(*thread.block, group.pending[number - group.done].product,
                   thread.linear % 128 / 32);
      }
    }
    run_until(*thread.block, group, end);
  }
  thread.product_fence = false;
  warp_barrier(0xffffffffu, file, line);
}

}  // namespace nodegrad::emulation
