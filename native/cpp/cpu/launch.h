// How CPU kernels reach a Stream. A kernel is a function of plain arguments and a chunk number;
// the stream copies the arguments, so a launch can be kept and replayed. Chunks run in any order
// and on any thread: work is cut by its size, never by the number of threads.
// Plain declarations only: included once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nodegrad {

class Stream;

namespace cpu {

using Kernel = void (*)(const void* args, int64_t chunk);

// Enqueues `kernel` for chunks 0 … chunks-1 and returns; all chunks of one launch have run before
// the next launch starts. `bytes` of `args` are copied (trailing arrays included).
void launch(Stream& stream, const char* name, Kernel kernel, const void* args, size_t bytes,
            int64_t chunks);

// Scratch memory in stream order: valid for the launches enqueued while it lives. 64-byte aligned;
// null where no bytes are asked for, and only there: throws when there is no memory.
class Scratch {
 public:
  Scratch(Stream& stream, size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  void* data() const { return data_; }

 private:
  Stream& stream_;
  void* const data_;
};

// Scratch of the thread that runs a chunk: 64-byte aligned, contents undefined, kept until the
// thread asks for more. Only inside kernels. Null when there is no memory.
void* thread_scratch(size_t bytes);

}  // namespace cpu
}  // namespace nodegrad
