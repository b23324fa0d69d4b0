#include "stream.h"

#include <utility>

#include "core/error.h"

#ifdef NODEGRAD_EMULATED
#include "emulation/hopper.h"
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

void check(cudaError_t status, const char* op, const char* call) {
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail("%s: %s failed: %s (%s)", op, call, cudaGetErrorName(status), cudaGetErrorString(status));
}

void check_launch(cudaError_t status, const char* name) {
  KernelTimes::end();
  if (status == cudaSuccess) return;
  cudaGetLastError();
  fail("%s: the launch failed: %s (%s)", name, cudaGetErrorName(status),
       cudaGetErrorString(status));
}

void use_device(int ordinal) {
  static thread_local int current = -1;
  if (current == ordinal) return;
  NODEGRAD_CUDA_CALL("device", cudaSetDevice, ordinal);
  current = ordinal;
}

void CUDART_CB Notices::called(void* notice) {
  auto* it = static_cast<Notice*>(notice);
  it->owner->complete(it);
}

void Notices::complete(Notice* notice) {
  std::unique_ptr<Notice> taken;
  {
    std::lock_guard lock(mutex_);
    for (auto at = pending_.begin(); at != pending_.end(); ++at) {
      if (at->get() != notice) continue;
      taken = std::move(*at);
      pending_.erase(at);
      break;
    }
  }
  if (taken) taken->done();
}

void Notices::add(cudaStream_t stream, std::function<void()> done) {
  auto notice = std::make_unique<Notice>(Notice{this, std::move(done)});
  Notice* raw = notice.get();
  {
    std::lock_guard lock(mutex_);
    pending_.push_back(std::move(notice));
  }
  const cudaError_t status = cudaLaunchHostFunc(stream, called, raw);
  if (status == cudaSuccess) return;
  {
    std::lock_guard lock(mutex_);
    pending_.remove_if([raw](const auto& n) { return n.get() == raw; });
  }
  check(status, "notify", "cudaLaunchHostFunc");
}

void Notices::flush() {
  std::list<std::unique_ptr<Notice>> left;
  {
    std::lock_guard lock(mutex_);
    left.swap(pending_);
  }
  for (const auto& notice : left) notice->done();
}

namespace {

class CudaGraph final : public Graph {
 public:
  CudaGraph(CudaStream& stream, cudaGraphExec_t graph, size_t launches,
            std::shared_ptr<ScratchPool> pool, std::shared_ptr<Staging> staging)
      : stream_(stream),
        graph_(graph),
        launches_(launches),
        pool_(std::move(pool)),
        staging_(std::move(staging)),
        scratch_(pool_->take_captured()),
        pinned_(staging_->take_captured()) {}

  ~CudaGraph() override {
    cudaGraphExecDestroy(graph_);  // a replay in flight goes on to its end
    pool_->give_back(scratch_);
    staging_->retire(pinned_);
  }

  void replay(Stream& stream) override {
    // Its scratch is ordered by the stream that captured it.
    if (&stream != &stream_) fail("replay: a graph runs on the stream that captured it");
    if (stream.capturing()) fail("replay: the stream is capturing another step");
    use_device(stream_.device().ordinal);
    stream_.begin_timing("replay");
    check_launch(cudaGraphLaunch(graph_, stream_.native()), "replay");
  }

  size_t launches() const override { return launches_; }

 private:
  CudaStream& stream_;
  cudaGraphExec_t graph_;
  size_t launches_;
  std::shared_ptr<ScratchPool> pool_;
  std::shared_ptr<Staging> staging_;
  std::vector<ScratchBlock> scratch_;
  std::vector<void*> pinned_;
};

}  // namespace

CudaStream::CudaStream(const DeviceInfo& device)
    : device_(device),
      scratch_(std::make_shared<ScratchPool>()),
      staging_(std::make_shared<Staging>()) {
  use_device(device_.ordinal);
  NODEGRAD_CUDA_CALL("stream", cudaStreamCreateWithFlags, &stream_, cudaStreamNonBlocking);
}

CudaStream::~CudaStream() {
  abort_capture();
  cudaStreamSynchronize(stream_);
  notices_.flush();
  cudaStreamDestroy(stream_);
}

void CudaStream::begin_timing(const char* name) {
  if (profile::on() && !capturing_) [[unlikely]]
    times_.begin(stream_, name);
}

void CudaStream::refuse_while_capturing(const char* op) const {
  if (capturing_) fail("%s: not possible while a step is captured", op);
}

// After a wait, failed or not: nothing of the stream is in flight.
void CudaStream::came_to_rest() {
  notices_.flush();
  staging_->free_retired();
}

void CudaStream::synchronize() {
  refuse_while_capturing("synchronize");
  use_device(device_.ordinal);
  const cudaError_t status = cudaStreamSynchronize(stream_);
  came_to_rest();
  check(status, "synchronize", "cudaStreamSynchronize");
}

bool CudaStream::idle() {
  if (capturing_) return false;  // asking would spoil the capture
  use_device(device_.ordinal);
  const cudaError_t status = cudaStreamQuery(stream_);
  if (status == cudaErrorNotReady) {
    cudaGetLastError();
    return false;
  }
  check(status, "stream", "cudaStreamQuery");
  return true;
}

void CudaStream::copy_from_host(void* dst, const void* host, size_t bytes) {
  use_device(device_.ordinal);
  if (bytes == 0) return;
  if (capturing_) {
    staging_->copy_in_captured(stream_, dst, host, bytes);
  } else {
    staging_->copy_in(stream_, dst, host, bytes);
  }
}

void CudaStream::copy_to_host(void* host, const void* src, size_t bytes) {
  refuse_while_capturing("read");
  use_device(device_.ordinal);
  if (bytes == 0) return synchronize();
  try {
    staging_->copy_out(stream_, host, src, bytes);
  } catch (...) {
    came_to_rest();
    throw;
  }
  came_to_rest();
}

void CudaStream::copy(void* dst, const void* src, size_t bytes) {
  if (bytes == 0) return;
  use_device(device_.ordinal);
  NODEGRAD_CUDA_CALL("copy", cudaMemcpyAsync, dst, src, bytes, cudaMemcpyDeviceToDevice, stream_);
}

void CudaStream::notify(std::function<void()> done) {
  refuse_while_capturing("notify");
  if (idle()) return done();
  notices_.add(stream_, std::move(done));
}

void CudaStream::begin_capture() {
  refuse_while_capturing("capture");
  use_device(device_.ordinal);
  NODEGRAD_CUDA_CALL("capture", cudaStreamBeginCapture, stream_, cudaStreamCaptureModeThreadLocal);
  capturing_ = true;
}

std::unique_ptr<Graph> CudaStream::end_capture() {
  if (!capturing_) fail("capture: end_capture without begin_capture");
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  size_t launches = 0;
  cudaError_t status = cudaStreamEndCapture(stream_, &graph);
  const char* call = "cudaStreamEndCapture";
  if (status == cudaSuccess) {
    status = cudaGraphGetNodes(graph, nullptr, &launches);
    call = "cudaGraphGetNodes";
  }
  if (status == cudaSuccess) {
    status = cudaGraphInstantiate(&executable, graph, 0);
    call = "cudaGraphInstantiate";
  }
  capturing_ = false;
  if (graph) cudaGraphDestroy(graph);
  if (status != cudaSuccess) abort_capture();
  check(status, "capture", call);
  return std::make_unique<CudaGraph>(*this, executable, launches, scratch_, staging_);
}

void CudaStream::abort_capture() noexcept {
  if (capturing_) {
    cudaGraph_t graph = nullptr;
    cudaStreamEndCapture(stream_, &graph);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();
    capturing_ = false;
  }
  scratch_->give_back(scratch_->take_captured());
  staging_->retire(staging_->take_captured());
}

void CudaStream::allow_shared(const char* name, const void* kernel, size_t bytes) {
  constexpr size_t kWithoutAsking = 48 * 1024;
  if (bytes <= kWithoutAsking) return;
  size_t& allowed = shared_allowed_[kernel];
  if (allowed >= bytes) return;
  NODEGRAD_CUDA_CALL(name, cudaFuncSetAttribute, kernel,
                     cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  allowed = bytes;
}

bool CudaStream::compiled_for([[maybe_unused]] const void* kernel,
                              [[maybe_unused]] int capability) {
  use_device(device_.ordinal);
#ifdef NODEGRAD_EMULATED
  return true;
#else
  const auto [at, first] = capabilities_.try_emplace(kernel, 0);
  if (first) {
    cudaFuncAttributes attributes{};
    if (cudaFuncGetAttributes(&attributes, kernel) == cudaSuccess) {
      at->second = attributes.ptxVersion;
    } else {
      cudaGetLastError();
    }
  }
  return at->second >= capability;
#endif
}

int CudaStream::resident_clusters(const void* kernel, const cudaLaunchConfig_t& config) {
  const auto [at, first] =
      resident_clusters_.try_emplace({kernel, config.attrs->val.clusterDim.x}, 1);
  if (!first) return at->second;
  use_device(device_.ordinal);
  allow_shared("cluster", kernel, config.dynamicSmemBytes);
  int count = 0;
  if (cudaOccupancyMaxActiveClusters(&count, kernel, &config) != cudaSuccess) cudaGetLastError();
  if (count > 1) at->second = count;
  return at->second;
}

bool compiled_for(Stream& stream, const void* kernel, int capability) {
  return static_cast<CudaStream&>(stream).compiled_for(kernel, capability);
}

int resident_clusters(Stream& stream, const void* kernel, const cudaLaunchConfig_t& config) {
  return static_cast<CudaStream&>(stream).resident_clusters(kernel, config);
}

cudaStream_t prepare_launch(Stream& stream, const char* name, const void* kernel,
                            size_t shared_bytes) {
  auto& cuda = static_cast<CudaStream&>(stream);
  use_device(cuda.device().ordinal);
  cuda.allow_shared(name, kernel, shared_bytes);
  cuda.begin_timing(name);
#ifdef NODEGRAD_EMULATED
  emulation::name_next_launch(name);
#endif
  return cuda.native();
}

void* acquire_scratch(Stream& stream, size_t bytes) {
  auto& cuda = static_cast<CudaStream&>(stream);
  use_device(cuda.device().ordinal);
  return cuda.scratch().acquire(bytes, cuda.capturing());
}

void release_scratch(Stream& stream, void* scratch) {
  static_cast<CudaStream&>(stream).scratch().release(scratch);
}

int multiprocessors(Stream& stream) {
  return static_cast<CudaStream&>(stream).device().multiprocessors;
}

int compute_capability(Stream& stream) {
  return static_cast<CudaStream&>(stream).device().capability;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
