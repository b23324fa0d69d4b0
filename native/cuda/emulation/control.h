// What tests steer of the emulated device. Each has an environment variable, read once.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nodegrad::emulation {

// Order of fibers and blocks, poison, moments of asynchronous work: NODEGRAD_EMULATION_SEED.
void set_seed(uint64_t seed);
uint64_t seed();

// Bounds, initialisation and races of every access of kernels compiled with -fsanitize=thread:
// NODEGRAD_EMULATION_CHECK, on unless 0.
void set_checks(bool on);
bool checks();

// Bytes of the device's memory: NODEGRAD_EMULATION_MEMORY, 4 GiB unless set.
void set_total_memory(size_t bytes);
size_t total_memory();
size_t used_memory();

// Two devices, which share their memory, so that kernels for older and newer chips are both tested:
// the first has the compute capability (major·10 + minor) of NODEGRAD_EMULATION_CAPABILITY, 80
// unless set, the second 90.
constexpr int kDevices = 2;
int capability_of(int device);
int capability();  // of the calling thread's current device

constexpr int kMultiprocessors = 4;
constexpr unsigned kLargestCooperativeGrid = 4 * kMultiprocessors;
constexpr unsigned kLargestCluster = 8;  // that every device of capability 9.0 takes
constexpr size_t kSharedOptin = 227 * 1024;
constexpr size_t kSharedDefault = 48 * 1024;

// Names the calling thread's next launch in failures.
void name_next_launch(const char* name);

}  // namespace nodegrad::emulation
