#include "staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "launch.h"
#include "scratch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

constexpr size_t kPieceBytes = size_t(1) << 20;
constexpr size_t kAlignment = 256;

Staging::~Staging() {
  const RelaxedCapture relaxed;
  free_retired();
  for (Piece* piece : {&in_[0], &in_[1], &in_[2], &in_[3], &out_[0], &out_[1]}) {
    if (piece->event) cudaEventDestroy(piece->event);
    if (piece->data) cudaFreeHost(piece->data);
  }
}

void Staging::open(Piece& piece) {
  if (piece.data) return;
  NODEGRAD_CUDA_CALL("copy", cudaEventCreateWithFlags, &piece.event, cudaEventDisableTiming);
  void* data = nullptr;
  NODEGRAD_CUDA_CALL("copy", cudaMallocHost, &data, kPieceBytes);
  piece.data = static_cast<char*>(data);
}

// A piece with room: for all of a small copy, for the next part of a large one.
Staging::Piece& Staging::piece_for(cudaStream_t stream, size_t bytes) {
  Piece* piece = &in_[current_];
  if (piece->used > 0 && piece->used + std::min(bytes, kPieceBytes) > kPieceBytes) {
    NODEGRAD_CUDA_CALL("copy", cudaEventRecord, piece->event, stream);
    piece->in_flight = true;
    current_ = (current_ + 1) % kPieces;
    piece = &in_[current_];
    if (piece->in_flight) {
      NODEGRAD_CUDA_CALL("copy", cudaEventSynchronize, piece->event);
      piece->in_flight = false;
    }
    piece->used = 0;
  }
  open(*piece);
  return *piece;
}

void Staging::copy_in(cudaStream_t stream, void* dst, const void* host, size_t bytes) {
  char* to = static_cast<char*>(dst);
  const char* from = static_cast<const char*>(host);
  while (bytes > 0) {
    Piece& piece = piece_for(stream, bytes);
    const size_t n = std::min(bytes, kPieceBytes - piece.used);
    std::memcpy(piece.data + piece.used, from, n);
    NODEGRAD_CUDA_CALL("copy", cudaMemcpyAsync, to, piece.data + piece.used, n,
                       cudaMemcpyHostToDevice, stream);
    piece.used += (n + kAlignment - 1) / kAlignment * kAlignment;
    to += n;
    from += n;
    bytes -= n;
  }
}

void Staging::copy_in_captured(cudaStream_t stream, void* dst, const void* host, size_t bytes) {
  void* buffer = nullptr;
  {
    const RelaxedCapture relaxed;
    NODEGRAD_CUDA_CALL("copy", cudaMallocHost, &buffer, bytes);
  }
  captured_.push_back(buffer);
  std::memcpy(buffer, host, bytes);
  NODEGRAD_CUDA_CALL("copy", cudaMemcpyAsync, dst, buffer, bytes, cudaMemcpyHostToDevice, stream);
}

void Staging::copy_out(cudaStream_t stream, void* host, const void* src, size_t bytes) {
  char* to = static_cast<char*>(host);
  const char* from = static_cast<const char*>(src);
  const size_t parts = (bytes + kPieceBytes - 1) / kPieceBytes;
  const auto part_bytes = [bytes](size_t i) {
    return std::min(kPieceBytes, bytes - i * kPieceBytes);
  };
  for (size_t i = 0; i <= parts; ++i) {
    if (i < parts) {
      Piece& piece = out_[i % 2];
      open(piece);
      NODEGRAD_CUDA_CALL("read", cudaMemcpyAsync, piece.data, from + i * kPieceBytes, part_bytes(i),
                         cudaMemcpyDeviceToHost, stream);
      NODEGRAD_CUDA_CALL("read", cudaEventRecord, piece.event, stream);
    }
    if (i > 0) {
      Piece& piece = out_[(i - 1) % 2];
      NODEGRAD_CUDA_CALL("read", cudaEventSynchronize, piece.event);
      std::memcpy(to + (i - 1) * kPieceBytes, piece.data, part_bytes(i - 1));
    }
  }
}

std::vector<void*> Staging::take_captured() { return std::exchange(captured_, {}); }

void Staging::retire(const std::vector<void*>& buffers) {
  retired_.insert(retired_.end(), buffers.begin(), buffers.end());
}

void Staging::free_retired() {
  for (void* buffer : retired_) cudaFreeHost(buffer);
  retired_.clear();
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
