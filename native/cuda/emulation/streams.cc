// The emulated runtime: streams, events, host functions, capture and graphs (runtime_api.h).
#include <algorithm>

#include "emulation/queue.h"

namespace nodegrad::emulation {

static thread_local api::cudaStreamCaptureMode thread_mode = api::cudaStreamCaptureModeGlobal;

bool may_call_unsafe(Queues& q) {
  if (thread_mode == api::cudaStreamCaptureModeRelaxed) return true;
  bool may = true;
  for (StreamState* stream : q.streams) {
    if (!stream->capture || stream->capture->mode == api::cudaStreamCaptureModeRelaxed) continue;
    const bool own = stream->capture->thread == std::this_thread::get_id();
    const bool global = thread_mode == api::cudaStreamCaptureModeGlobal &&
                        stream->capture->mode == api::cudaStreamCaptureModeGlobal;
    if (!own && !global) continue;
    stream->capture->invalid = true;
    may = false;
  }
  return may;
}

// What a wait for an event says of the stream that recorded it.
static api::cudaError_t error_of_stream(Queues& q, const EventRecord& record) {
  if (!is_stream(q, record.stream) || record.stream->error.empty()) return api::cudaSuccess;
  return take_error(*record.stream);
}

namespace api {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  *stream = new StreamState;
  q.streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  stream->capture.reset();
  stream->destroyed = true;  // its thread deletes it after the last task
  if (stream->busy()) return cudaSuccess;
  std::erase(q.streams, stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (std::this_thread::get_id() == q.worker) return result(cudaErrorNotPermitted);
  if (stream->capture) {
    stream->capture->invalid = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  wait_until(q, lock, stream, [stream] { return !stream->busy(); });
  return take_error(*stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture) {
    stream->capture->invalid = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  if (!stream->error.empty()) return take_error(*stream);
  return stream->busy() ? result(cudaErrorNotReady) : cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (std::this_thread::get_id() == q.worker) return result(cudaErrorNotPermitted);
  if (!may_call_unsafe(q)) return result(cudaErrorStreamCaptureUnsupported);
  wait_for_all(q, lock);
  for (StreamState* stream : q.streams) {
    if (!stream->error.empty()) return take_error(*stream);
  }
  return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  return submit(q, *stream, Task::Kind::host, [function, data] {
    function(data);
    return std::string();
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EventState;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return result(cudaErrorInvalidResourceHandle);
  delete event;  // queued tasks share the record
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!event || !is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  event->record->captured = stream->capture != nullptr;
  event->record->stream = stream;
  if (stream->capture) return cudaSuccess;
  push(q, *stream, {Task::Kind::record, {}, event->record, ++event->record->recorded, {}});
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!event || !is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture || event->record->captured) {
    // One stream's own order holds already; captures that fork are not emulated.
    if (stream->capture && event->record->captured) return cudaSuccess;
    if (stream->capture) stream->capture->invalid = true;
    return result(cudaErrorStreamCaptureIsolation);
  }
  push(q, *stream, {Task::Kind::wait, {}, event->record, event->record->recorded, {}});
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Queues& q = queues();
  std::unique_lock lock(q.mutex);
  if (!event) return result(cudaErrorInvalidResourceHandle);
  if (std::this_thread::get_id() == q.worker) return result(cudaErrorNotPermitted);
  if (event->record->captured) return result(cudaErrorCapturedEvent);
  wait_until(q, lock, nullptr,
             [record = event->record] { return record->completed >= record->recorded; });
  return error_of_stream(q, *event->record);
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!event) return result(cudaErrorInvalidResourceHandle);
  if (event->record->captured) return result(cudaErrorCapturedEvent);
  if (event->record->completed < event->record->recorded) return result(cudaErrorNotReady);
  return error_of_stream(q, *event->record);
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!start || !end || !start->record->recorded || !end->record->recorded) {
    return result(cudaErrorInvalidResourceHandle);
  }
  for (const cudaEvent_t event : {start, end}) {
    if (event->record->completed < event->record->recorded) return result(cudaErrorNotReady);
  }
  *milliseconds =
      std::chrono::duration<float, std::milli>(end->record->time - start->record->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture) return result(cudaErrorIllegalState);
  stream->capture = std::make_unique<Capture>();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  *graph = nullptr;
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  if (!stream->capture) return result(cudaErrorIllegalState);
  if (stream->capture->mode != cudaStreamCaptureModeRelaxed &&
      stream->capture->thread != std::this_thread::get_id()) {
    return result(cudaErrorStreamCaptureWrongThread);
  }
  const std::unique_ptr<Capture> capture = std::move(stream->capture);
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  *graph = new GraphState(capture->graph);
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (!graph || nodes) return result(cudaErrorInvalidValue);
  *count = graph->nodes->size();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                 unsigned long long) {
  if (!graph) return result(cudaErrorInvalidValue);
  *executable = new GraphState(*graph);
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Queues& q = queues();
  std::lock_guard lock(q.mutex);
  if (!executable || !is_stream(q, stream)) return result(cudaErrorInvalidResourceHandle);
  return submit(q, *stream, Task::Kind::work, [nodes = executable->nodes] {
    for (const Work& node : *nodes) {
      std::string error = node();
      if (!error.empty()) return error;
    }
    return std::string();
  });
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;  // queued launches share the nodes
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

}  // namespace api
}  // namespace nodegrad::emulation
