// Assembles the families of one instruction set; compiled once for each, like them.
#include "cpu/tables.h"

namespace nodegrad::cpu::NODEGRAD_ISA {

#define NODEGRAD_FAMILY(name, Family) extern const Family name##_family;
#include "core/families.def"
#undef NODEGRAD_FAMILY

#define NODEGRAD_FAMILY(name, Family) .name = &name##_family,
const Backend backend = {
#include "core/families.def"
};
#undef NODEGRAD_FAMILY

}  // namespace nodegrad::cpu::NODEGRAD_ISA
