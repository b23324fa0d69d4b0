// The CPU as a device: memory from the C library, and the kernels of the best instruction set
// that this processor has (NODEGRAD_CPU_ISA=v2|v3|v4 asks for a lesser one).
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/executor.h"
#include "cpu/stream.h"
#include "cpu/tables.h"

namespace nodegrad {
namespace cpu {
namespace {

struct InstructionSet {
  const char* name;
  const Backend* backend;
  bool supported;
};

const InstructionSet& choose_instruction_set() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  static const InstructionSet kSets[] = {
#ifdef NODEGRAD_HAS_v4
      {"v4", &v4::backend, __builtin_cpu_supports("x86-64-v4") != 0},
#endif
#ifdef NODEGRAD_HAS_v3
      {"v3", &v3::backend, __builtin_cpu_supports("x86-64-v3") != 0},
#endif
#ifdef NODEGRAD_HAS_v2
      {"v2", &v2::backend, true},
#endif
  };
#else
  static const InstructionSet kSets[] = {{"native", &native::backend, true}};
#endif
  const char* wanted = std::getenv("NODEGRAD_CPU_ISA");
  for (const InstructionSet& set : kSets) {
    if (set.supported && (!wanted || !*wanted || std::strcmp(wanted, set.name) == 0)) return set;
  }
  fail("cpu: NODEGRAD_CPU_ISA must name an instruction set of this build and processor, got %s",
       wanted && *wanted ? wanted : "none");
}

class CpuDriver final : public DeviceDriver {
 public:
  const Backend& backend() const override { return *set_.backend; }
  std::unique_ptr<Stream> make_stream() override {
    return std::make_unique<CpuStream>(*this, true);
  }
  std::unique_ptr<Stream> make_side_stream() override {
    return std::make_unique<CpuStream>(*this, false);
  }

  void* allocate(size_t bytes) override {
    constexpr size_t kHugePage = size_t{2} << 20;
    const size_t alignment = bytes >= kHugePage ? kHugePage : 256;
    if (bytes > SIZE_MAX - alignment) return nullptr;
    const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(alignment, rounded);
    if (memory && bytes >= kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
    return memory;
  }
  void release(void* memory) override { std::free(memory); }

  std::string description() const override {
    return std::string("CPU, instruction set ") + set_.name + ", " +
           std::to_string(Executor::instance().threads()) + " threads";
  }

 private:
  const InstructionSet& set_ = choose_instruction_set();
};

}  // namespace
}  // namespace cpu

std::unique_ptr<DeviceDriver> make_cpu_driver() { return std::make_unique<cpu::CpuDriver>(); }

}  // namespace nodegrad
