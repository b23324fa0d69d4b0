#include "scratch.h"

#include "core/allocator.h"
#include "core/error.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// The smallest block that fits; larger than 4·bytes is left for those who need it.
static size_t best_fit(const std::vector<ScratchBlock>& blocks, size_t bytes) {
  size_t best = blocks.size();
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].bytes < bytes || blocks[i].bytes / 4 > bytes) continue;
    if (best == blocks.size() || blocks[i].bytes < blocks[best].bytes) best = i;
  }
  return best;
}

static ScratchBlock take(std::vector<ScratchBlock>& blocks, size_t at) {
  const ScratchBlock block = blocks[at];
  blocks[at] = blocks.back();
  blocks.pop_back();
  return block;
}

ScratchPool::~ScratchPool() {
  const RelaxedCapture relaxed;
  for (const ScratchBlock& block : free_) cudaFree(block.data);
  for (const auto& [data, used] : used_) cudaFree(data);  // of ops that threw half-way
}

ScratchBlock ScratchPool::allocate(size_t bytes) {
  const RelaxedCapture relaxed;
  void* data = nullptr;
  cudaError_t status = cudaMalloc(&data, bytes);
  if (status == cudaErrorMemoryAllocation && !free_.empty()) {
    cudaGetLastError();
    for (const ScratchBlock& block : free_) {  // cudaFree waits for what still uses the block
      cudaFree(block.data);
      held_ -= block.bytes;
    }
    free_.clear();
    status = cudaMalloc(&data, bytes);
  }
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    fail("scratch: the device is out of memory, asked for %zu bytes, %zu are held as scratch",
         bytes, held_);
  }
  check(status, "scratch", "cudaMalloc");
  held_ += bytes;
  return {data, bytes};
}

void* ScratchPool::acquire(size_t bytes, bool capturing) {
  bytes = size_class(bytes);
  ScratchBlock block{};
  size_t at = best_fit(free_in_capture_, bytes);
  if (capturing && at < free_in_capture_.size()) {
    block = take(free_in_capture_, at);
  } else {
    at = best_fit(free_, bytes);
    block = at < free_.size() ? take(free_, at) : allocate(bytes);
    if (capturing) captured_.push_back(block);
  }
  used_[block.data] = {block.bytes, capturing};
  return block.data;
}

void ScratchPool::release(void* scratch) {
  const auto found = used_.find(scratch);
  if (found == used_.end()) fail("scratch: release what was acquired, got %p", scratch);
  (found->second.captured ? free_in_capture_ : free_).push_back({scratch, found->second.bytes});
  used_.erase(found);
}

std::vector<ScratchBlock> ScratchPool::take_captured() {
  free_in_capture_.clear();
  for (const ScratchBlock& block : captured_) used_.erase(block.data);
  return std::exchange(captured_, {});
}

void ScratchPool::give_back(const std::vector<ScratchBlock>& blocks) {
  free_.insert(free_.end(), blocks.begin(), blocks.end());
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
