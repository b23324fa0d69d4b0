// How an axis of n elements becomes one of m: which element stands at place i, and at which places
// an element stands. Padding, flips, rolls and repetition are such maps, one per axis.
// Plain functions in static form: included once per instruction set, and by nvcc.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define NODEGRAD_AXIS_FN static __host__ __device__ __forceinline__
#else
#define NODEGRAD_AXIS_FN static inline __attribute__((always_inline, unused))
#endif

namespace nodegrad {

enum class AxisMode : int32_t {
  pad,        // t outside [0,n) is the fill value
  reflect,    // mirrored at the first and the last element, which are not repeated
  replicate,  // the nearest element
  circular,   // t modulo n: also rolls and tiles
  flip,       // n - 1 - t, with m = n
  each,       // t / repeat: every element `repeat` times
};
constexpr int kAxisModes = 6;

// t = i - before. What is asked of sizes: n > 0 where m > 0, but for `pad`; reflect: t in
// [-(n-1), 2(n-1)].
struct AxisMap {
  AxisMode mode;
  int64_t before, repeat;
};

// A run of places: from `source` on in steps of `step`; source -1 is the fill value.
struct AxisRun {
  int64_t source, step, length;
};

// The run that begins at place i < m, at its longest.
NODEGRAD_AXIS_FN AxisRun axis_run(const AxisMap& map, int64_t n, int64_t m, int64_t i) {
  const int64_t t = i - map.before, rest = m - i;
  AxisRun run = {t, 1, rest};
  switch (map.mode) {
    case AxisMode::pad:
      if (t < 0 || t >= n) run.source = -1;
      run.length = t < 0 ? -t : t < n ? n - t : rest;
      break;
    case AxisMode::reflect:
      if (t < 0) {
        run = {-t, -1, -t};
      } else if (t < n) {
        run.length = n - t;
      } else {
        run = {2 * (n - 1) - t, -1, rest};
      }
      break;
    case AxisMode::replicate:
      if (t < 0) {
        run = {0, 0, -t};
      } else if (t < n) {
        run.length = n - t;
      } else {
        run = {n - 1, 0, rest};
      }
      break;
    case AxisMode::circular:
      run.source = t % n < 0 ? t % n + n : t % n;
      run.length = n - run.source;
      break;
    case AxisMode::flip:
      run = {n - 1 - t, -1, rest};
      break;
    case AxisMode::each:
      run = {t / map.repeat, 0, map.repeat - t % map.repeat};
      break;
  }
  if (run.length > rest) run.length = rest;
  return run;
}

// The element at place i, or -1 for the fill value.
NODEGRAD_AXIS_FN int64_t axis_source(const AxisMap& map, int64_t n, int64_t i) {
  return axis_run(map, n, i + 1, i).source;
}

// Places of one element, in ascending order: `runs` times `count` places `step` apart. Some of them
// may lie outside [0,m).
struct AxisPlaces {
  int64_t first[3], step, count;
  int32_t runs;
};

NODEGRAD_AXIS_FN AxisPlaces axis_places(const AxisMap& map, int64_t n, int64_t m, int64_t j) {
  AxisPlaces p = {{j + map.before, 0, 0}, 1, 1, 1};
  switch (map.mode) {
    case AxisMode::pad:
      break;
    case AxisMode::reflect:
      if (j > 0) {
        p.first[0] = map.before - j;
        p.first[p.runs++] = map.before + j;
      }
      if (j < n - 1) p.first[p.runs++] = map.before + 2 * (n - 1) - j;
      break;
    case AxisMode::replicate:
      if (j == 0) p.first[0] = 0;
      p.count = (j == n - 1 ? m : j + map.before + 1) - p.first[0];
      break;
    case AxisMode::circular:
      p.first[0] = (j + map.before) % n;
      if (p.first[0] < 0) p.first[0] += n;
      p.step = n;
      p.count = (m - p.first[0] + n - 1) / n;
      break;
    case AxisMode::flip:
      p.first[0] = n - 1 - j + map.before;
      break;
    case AxisMode::each:
      p.first[0] = j * map.repeat + map.before;
      p.count = map.repeat;
      break;
  }
  return p;
}

}  // namespace nodegrad
