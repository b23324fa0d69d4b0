// Runs the cases of the emulated device: `emulation_test [--seeds N] [--only NAME]`.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <stdexcept>

#include "emulation/control.h"
#include "harness.h"

namespace harness {

std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

void fail_case(const std::string& text) { throw std::runtime_error(text); }

void expect_error_of(const std::string& what, const std::string& text) {
  if (what.empty()) fail_case("no error where one with '" + text + "' was expected");
  if (what.find(text) == std::string::npos) {
    fail_case("an error with '" + text + "' was expected, got: " + what);
  }
}

nodegrad::DeviceDriver& driver() {
  static nodegrad::DeviceDriver& instance = *nodegrad::emulated::make_driver(0).release();
  return instance;
}

nodegrad::DeviceDriver& hopper() {
  static nodegrad::DeviceDriver& instance = *nodegrad::emulated::make_driver(1).release();
  return instance;
}

void hopper_current() { hopper().make_stream(); }

std::unique_ptr<nodegrad::Stream> make_stream() { return driver().make_stream(); }

}  // namespace harness

static bool run_case(const harness::Case& test, int seeds) {
  const auto start = std::chrono::steady_clock::now();
  for (int seed = 1; seed <= seeds; ++seed) {
    nodegrad::emulation::set_seed(static_cast<uint64_t>(seed));
    try {
      test.run();
    } catch (const std::exception& error) {
      std::printf("FAILED %s, seed %d: %s\n", test.name, seed, error.what());
      return false;
    }
  }
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  std::printf("ok %s (%d seeds, %.0f ms)\n", test.name, seeds, took.count());
  return true;
}

int main(int argc, char** argv) {
  int seeds = 1;
  const char* only = nullptr;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--seeds") == 0) seeds = std::atoi(argv[i + 1]);
    if (std::strcmp(argv[i], "--only") == 0) only = argv[i + 1];
  }
  int passed = 0, failed = 0;
  for (const harness::Case& test : harness::cases()) {
    if (only && std::strcmp(only, test.name) != 0) continue;
    if (!test.run) {
      std::printf("skipped %s (built without the checks)\n", test.name);
      continue;
    }
    run_case(test, seeds) ? ++passed : ++failed;
    std::fflush(stdout);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 && passed > 0 ? 0 : 1;
}
