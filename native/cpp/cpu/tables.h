// The tables that cpu/tables.cc assembles, one per instruction set.
#pragma once

#include "core/backend.h"

namespace nodegrad::cpu {

#if defined(__x86_64__)
namespace v2 {
extern const Backend backend;
}
namespace v3 {
extern const Backend backend;
}
namespace v4 {
extern const Backend backend;
}
#else
namespace native {
extern const Backend backend;
}
#endif

}  // namespace nodegrad::cpu
