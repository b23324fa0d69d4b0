// The recurrence of a whole sequence in clusters of blocks (rnn_cluster.cu).
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

// Enqueue the recurrence or its reverse; false, and nothing enqueued, where the chip or this build
// has no clusters, the weights do not fit one (rnn_plan.h), the sequence is one step long or the
// dtype is float64.
bool rnn_cluster_forward(Stream& stream, const RnnArgs& a);
bool rnn_cluster_backward(Stream& stream, const RnnArgs& a, const RnnGradients& d);

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
