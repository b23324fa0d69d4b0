// Scratch memory of one stream. A released block may serve the next launch at once, because the
// stream runs launches in order. Blocks used while a graph is captured belong to that graph until
// it is destroyed.
#pragma once

#include <cstddef>
#include <unordered_map>
#include <vector>

#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Allows calls such as cudaMalloc while the calling thread captures.
class RelaxedCapture {
 public:
  RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  ~RelaxedCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  RelaxedCapture(const RelaxedCapture&) = delete;
  RelaxedCapture& operator=(const RelaxedCapture&) = delete;

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

struct ScratchBlock {
  void* data;
  size_t bytes;
};

class ScratchPool {
 public:
  ~ScratchPool();
  void* acquire(size_t bytes, bool capturing);
  void release(void* scratch);
  // What the capture that ends now has used, for its graph.
  std::vector<ScratchBlock> take_captured();
  void give_back(const std::vector<ScratchBlock>& blocks);

 private:
  struct Used {
    size_t bytes;
    bool captured;
  };
  ScratchBlock allocate(size_t bytes);

  std::vector<ScratchBlock> free_, free_in_capture_;
  std::vector<ScratchBlock> captured_;
  std::unordered_map<void*, Used> used_;
  size_t held_ = 0;  // bytes taken from the device
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
