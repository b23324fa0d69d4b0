// Copies between the host's ordinary memory and the device, through pinned memory: a ring of pieces
// on the way in, so that a copy has taken its bytes when it returns and does not wait; two pieces
// in turn on the way out.
#pragma once

#include <cstddef>
#include <vector>

#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

class Staging {
 public:
  ~Staging();
  void copy_in(cudaStream_t stream, void* dst, const void* host, size_t bytes);
  // Keeps the bytes for every replay of the graph that `stream` captures.
  void copy_in_captured(cudaStream_t stream, void* dst, const void* host, size_t bytes);
  void copy_out(cudaStream_t stream, void* host, const void* src, size_t bytes);  // waits

  // The pinned memory of the capture that ends now, for its graph, and back from it.
  std::vector<void*> take_captured();
  void retire(const std::vector<void*>& buffers);
  // Frees what is retired: to be called when the stream has come to rest.
  void free_retired();

 private:
  struct Piece {
    char* data = nullptr;
    cudaEvent_t event = nullptr;
    size_t used = 0;
    bool in_flight = false;  // the event is to be waited for before the piece is filled again
  };
  void open(Piece& piece);
  Piece& piece_for(cudaStream_t stream, size_t bytes);

  static constexpr int kPieces = 4;
  Piece in_[kPieces], out_[2];
  int current_ = 0;
  std::vector<void*> captured_, retired_;
};

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
