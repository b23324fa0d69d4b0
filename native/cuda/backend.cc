// The CUDA backend: the table of its families' tables (core/backend.h).
#include "families.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

#define NODEGRAD_FAMILY(name, Family) .name = &name##_family,
const Backend backend = {
#include "core/families.def"
};
#undef NODEGRAD_FAMILY

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
