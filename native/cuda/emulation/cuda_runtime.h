// Stands in for CUDA's header of this name where the host C++ compiler builds the .cu files: the
// subset of the runtime and of device code that nodegrad uses, in ordinary C++. Names live in
// nodegrad::emulation::api, so that this and the real CUDA run-time fit in one binary.
// Kernels compiled with -fsanitize=thread report every memory access to shadow.cc, which checks
// bounds, initialisation and races; libtsan is not linked.
#pragma once

#define CUDART_CB
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))

#include "emulation/intrinsics.h"
#include "emulation/runtime_api.h"
#include "emulation/vector_types.h"
#include "emulation/warp.h"

#define threadIdx (::nodegrad::emulation::thread_index())
#define blockIdx (::nodegrad::emulation::block_index())
#define blockDim (::nodegrad::emulation::block_shape())
#define gridDim (::nodegrad::emulation::grid_shape())

using namespace nodegrad::emulation::api;
