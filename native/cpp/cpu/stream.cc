#include "cpu/stream.h"

#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/executor.h"
#include "core/profile.h"

namespace nodegrad::cpu {

void LaunchList::add(const char* name, Kernel kernel, const void* args, size_t bytes,
                     int64_t chunks) {
  const size_t offset = arguments_.size();
  arguments_.resize(offset + (bytes + sizeof(std::max_align_t) - 1) / sizeof(std::max_align_t));
  if (bytes) std::memcpy(&arguments_[offset], args, bytes);
  launches_.push_back({name, kernel, offset, chunks});
}

void LaunchList::run(bool helped) const {
  for (const Launch& launch : launches_) {
    const void* const args = arguments_.data() + launch.offset;
    const profile::Span span(profile::Kind::kernel, launch.name);
    if (helped) {
      Executor::instance().run(launch.kernel, args, launch.chunks);
    } else {
      for (int64_t chunk = 0; chunk < launch.chunks; ++chunk) launch.kernel(args, chunk);
    }
  }
}

namespace {

class CpuGraph final : public Graph {
 public:
  explicit CpuGraph(std::shared_ptr<LaunchList> list) : list_(std::move(list)) {}
  void replay(Stream& stream) override { static_cast<CpuStream&>(stream).enqueue(list_); }
  size_t launches() const override { return list_->size(); }

 private:
  std::shared_ptr<LaunchList> list_;
};

// A constant of a captured step: its bytes follow the arguments.
struct ConstantArgs {
  void* dst;
  size_t bytes;
};

void constant_kernel(const void* args, int64_t) {
  const auto& constant = *static_cast<const ConstantArgs*>(args);
  std::memcpy(constant.dst, &constant + 1, constant.bytes);
}

struct CopyArgs {
  void* dst;
  const void* src;
  size_t bytes;
};
constexpr size_t kCopyChunk = 256 * 1024;

void copy_kernel(const void* args, int64_t chunk) {
  const auto& copy = *static_cast<const CopyArgs*>(args);
  const size_t begin = static_cast<size_t>(chunk) * kCopyChunk;
  const size_t bytes = std::min(kCopyChunk, copy.bytes - begin);
  std::memcpy(static_cast<char*>(copy.dst) + begin, static_cast<const char*>(copy.src) + begin,
              bytes);
}

}  // namespace

CpuStream::~CpuStream() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
  for (const Scratch& s : scratch_) driver_.release(s.data);
}

void CpuStream::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    std::exception_ptr failure;
    try {
      job();
    } catch (...) {
      failure = std::current_exception();
    }
    job = nullptr;
    lock.lock();
    if (failure && !failure_) failure_ = failure;
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) changed_.notify_all();
  }
}

void CpuStream::enqueue(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    if (!thread_.joinable()) thread_ = std::thread([this] { serve(); });
    jobs_.push_back(std::move(job));
    pending_.fetch_add(1, std::memory_order_acq_rel);
  }
  changed_.notify_all();
}

void CpuStream::enqueue(std::shared_ptr<const LaunchList> list) {
  enqueue([list = std::move(list), helped = helped_] { list->run(helped); });
}

void CpuStream::launch(const char* name, Kernel kernel, const void* args, size_t bytes,
                       int64_t chunks) {
  if (chunks <= 0) return;
  if (capturing_) {
    capture_->add(name, kernel, args, bytes, chunks);
  } else if (idle()) {
    const profile::Span span(profile::Kind::kernel, name);
    Executor::instance().run(kernel, args, chunks);
  } else {
    auto list = std::make_shared<LaunchList>();
    list->add(name, kernel, args, bytes, chunks);
    enqueue(std::move(list));
  }
}

void CpuStream::synchronize() {
  if (capturing_) fail("synchronize: a step that is being captured cannot wait");
  if (idle() && !failure_) return;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pending_.load(std::memory_order_acquire) == 0; });
  if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
}

void CpuStream::copy_from_host(void* dst, const void* host, size_t bytes) {
  if (bytes == 0) return;
  if (capturing_) {
    std::vector<char> args(sizeof(ConstantArgs) + bytes);
    const ConstantArgs head{dst, bytes};
    std::memcpy(args.data(), &head, sizeof head);
    std::memcpy(args.data() + sizeof head, host, bytes);
    capture_->add("constant", constant_kernel, args.data(), args.size(), 1);
  } else if (idle()) {
    std::memcpy(dst, host, bytes);
  } else {
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char*>(host),
                                                      static_cast<const char*>(host) + bytes);
    enqueue([staged, dst] { std::memcpy(dst, staged->data(), staged->size()); });
  }
}

void CpuStream::copy_to_host(void* host, const void* src, size_t bytes) {
  if (capturing_) fail("read: a value cannot be read while a step is being captured");
  synchronize();
  if (bytes) std::memcpy(host, src, bytes);
}

void CpuStream::copy(void* dst, const void* src, size_t bytes) {
  const CopyArgs args{dst, src, bytes};
  launch("copy_bytes", copy_kernel, &args, sizeof args,
         static_cast<int64_t>((bytes + kCopyChunk - 1) / kCopyChunk));
}

void CpuStream::notify(std::function<void()> done) {
  if (idle()) {
    done();
  } else {
    enqueue(std::move(done));
  }
}

void CpuStream::begin_capture() {
  if (capturing_) fail("capture: a step is already being captured on this device");
  capture_ = std::make_shared<LaunchList>();
  capturing_ = true;
}

std::unique_ptr<Graph> CpuStream::end_capture() {
  capturing_ = false;
  return std::make_unique<CpuGraph>(std::move(capture_));
}

void CpuStream::abort_capture() noexcept {
  capturing_ = false;
  capture_.reset();
}

void* CpuStream::acquire_scratch(size_t bytes) {
  Scratch* best = nullptr;
  for (Scratch& s : scratch_) {
    if (!s.used && s.bytes >= bytes && (!best || s.bytes < best->bytes)) best = &s;
  }
  if (!best) {
    void* data = driver_.allocate(std::max<size_t>(bytes, 4096));
    if (!data) fail("scratch: out of memory on cpu: asked for %zu bytes", bytes);
    scratch_.push_back({data, std::max<size_t>(bytes, 4096), false});
    best = &scratch_.back();
  }
  best->used = true;
  return best->data;
}

void CpuStream::release_scratch(void* scratch) {
  for (Scratch& s : scratch_) {
    if (s.data == scratch) s.used = false;
  }
}

void launch(Stream& stream, const char* name, Kernel kernel, const void* args, size_t bytes,
            int64_t chunks) {
  static_cast<CpuStream&>(stream).launch(name, kernel, args, bytes, chunks);
}

Scratch::Scratch(Stream& stream, size_t bytes)
    : stream_(stream),
      data_(bytes > 0 ? static_cast<CpuStream&>(stream).acquire_scratch(bytes) : nullptr) {}

Scratch::~Scratch() {
  if (data_) static_cast<CpuStream&>(stream_).release_scratch(data_);
}

}  // namespace nodegrad::cpu
