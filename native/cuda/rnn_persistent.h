// The recurrence of a whole sequence in one launch (rnn_persistent.cu).
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Enqueue the recurrence or its reverse; false, and nothing enqueued, where the weights do not fit
// the multiprocessors' shared memory, the sequence is one step long or the dtype is float64.
bool rnn_persistent_forward(Stream& stream, const RnnArgs& a);
bool rnn_persistent_backward(Stream& stream, const RnnArgs& a, const RnnGradients& d);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
