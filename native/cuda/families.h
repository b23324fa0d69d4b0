// The tables that the kernel files of this folder define, one per family of core/backend.h.
#pragma once

#include "core/backend.h"
#include "device.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

#define NODEGRAD_FAMILY(name, Family) extern const Family name##_family;
#include "core/families.def"
#undef NODEGRAD_FAMILY

extern const Backend backend;

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
