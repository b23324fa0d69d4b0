// Tensor maps and their copies on the emulated device, of boxes and of windows: right kernels get
// what the PTX ISA says, what the driver would refuse is refused, and misuse is caught.
#include "harness.h"
#include "tensor_copy.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

using harness::Buffer;
using harness::expect_error;

// --- boxes ---

constexpr int kBoxLines = 24;
struct alignas(1024) Boxes {
  uint16_t v[2][kBoxLines][64];
  Mbarrier full;
};
enum class CopyFault { none, too_few_bytes, no_fence, no_wait };

// Block `rank` of two loads box `rank` for both, at rows y0 + 24·rank of a [2,40,72] tensor.
template <CopyFault kFault>
__global__ void boxes_kernel(const __grid_constant__ CUtensorMap map, int x0, int y0, uint16_t* y) {
  auto& s = shared_memory<Boxes>();
  const int rank = static_cast<int>(cluster_rank());
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    if (kFault != CopyFault::no_fence) fence_mbarrier_init();
  }
  cluster_sync();
  if (threadIdx.x == 0) {
    mbarrier_expect_and_arrive(&s.full, kFault == CopyFault::too_few_bytes ? 3072 : sizeof s.v);
    load_box_multicast(s.v[rank], &map, x0, y0 + kBoxLines * rank, 1, &s.full, 3);
  }
  if (kFault != CopyFault::no_wait) mbarrier_wait(&s.full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kBoxLines * 64; i += 64) {
    y[blockIdx.x * 2 * kBoxLines * 64 + static_cast<unsigned>(i)] = (&s.v[0][0][0])[i];
  }
  cluster_sync();
}

template <CopyFault kFault>
static void run_boxes(int x0 = 0, int y0 = 0) {
  auto stream = harness::hopper().make_stream();
  Buffer<uint16_t> x(2 * 40 * 72), y(2 * 2 * kBoxLines * 64);
  std::vector<uint16_t> values(2 * 40 * 72), expected;
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i + 1);
  x.write(*stream, values);
  for (int block = 0; block < 2; ++block) {
    for (int line = 0; line < 2 * kBoxLines; ++line) {
      for (int at = 0; at < 64; ++at) {
        // Piece p of line l stands at p ^ (l % 8): 24 lines keep the period of 8.
        const int column = x0 + ((at / 8) ^ (line % 8)) * 8 + at % 8, row = y0 + line;
        const bool inside = column >= 0 && column < 72 && row >= 0 && row < 40;
        expected.push_back(inside ? values[static_cast<size_t>(40 * 72 + row * 72 + column)]
                                  : uint16_t{0});
      }
    }
  }
  TensorBox box{x.data(), {72, 40, 2}, {144, 40 * 144}, {64, kBoxLines, 1}, false, 2};
  alignas(128) CUtensorMap map;
  EXPECT(encode_tensor_map(&map, box));
  launch_clusters(*stream, "boxes", boxes_kernel<kFault>, 2, 64, 2, sizeof(Boxes), map, x0, y0,
                  y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(tensor_copy_swizzles) { run_boxes<CopyFault::none>(); }
CASE(tensor_copy_fills_with_zeros) {
  run_boxes<CopyFault::none>(16, 5);
  run_boxes<CopyFault::none>(-9, -3);
  run_boxes<CopyFault::none>(100, 0);
}
CHECKED_CASE(tensor_copy_of_more_bytes) {
  expect_error([] { run_boxes<CopyFault::too_few_bytes>(); }, "boxes: ");
}
CASE(tensor_copy_without_fence) {
  expect_error([] { run_boxes<CopyFault::no_fence>(); }, "no fence after the mbarrier");
}
CHECKED_CASE(tensor_copy_without_wait) {
  expect_error([] { run_boxes<CopyFault::no_wait>(); }, "boxes: thread");
}

CASE(tensor_map_rules) {
  harness::hopper_current();
  Buffer<uint16_t> x(4096);
  alignas(128) CUtensorMap map;
  const TensorBox right{x.data(), {64, 8, 1}, {128, 1024}, {64, 8, 1}, false, 2};
  EXPECT(encode_tensor_map(&map, right));
  const auto refused = [&](auto change) {
    TensorBox box = right;
    change(box);
    return !encode_tensor_map(&map, box);
  };
  EXPECT(refused([&](TensorBox& b) { b.data = x.data() + 1; }));
  EXPECT(refused([](TensorBox& b) { b.strides[0] = 130; }));
  EXPECT(refused([](TensorBox& b) { b.strides[1] = 0; }));
  EXPECT(refused([](TensorBox& b) { b.box[0] = 72; }));
  EXPECT(refused([](TensorBox& b) { b.box[1] = 257; }));
  EXPECT(refused([](TensorBox& b) { b.sizes[1] = 0; }));
}

// --- copies of windows (im2col mode) ---

constexpr int kWindowsOfCopy = 40;
struct alignas(1024) WindowColumn {
  uint16_t v[kWindowsOfCopy][64];
  Mbarrier full;
};

__global__ void windows_kernel(const __grid_constant__ CUtensorMap map, int channel, int x, int y,
                               int image, int across, int down, uint16_t* to) {
  auto& s = shared_memory<WindowColumn>();
  if (threadIdx.x == 0) {
    mbarrier_init(&s.full, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_expect_and_arrive(&s.full, sizeof s.v);
    load_windows(s.v, &map, channel, x, y, image, across, down, &s.full);
  }
  mbarrier_wait(&s.full, 0);
  for (int i = static_cast<int>(threadIdx.x); i < kWindowsOfCopy * 64; i += 32) {
    to[i] = (&s.v[0][0])[i];
  }
}

// Images [3,8,6,72], and where along w and h the windows start.
struct WindowCase {
  int lower[2], upper[2], steps[2];
  int at[2], first_image, channel, offsets[2];
};

static TensorWindows windows_of(const WindowCase& q, const uint16_t* x) {
  const auto step = [&](int i) { return static_cast<uint32_t>(q.steps[i]); };
  return {x,
          {72, 6, 8, 3},
          {144, 6 * 144, 8 * 6 * 144},
          {q.lower[0], q.lower[1]},
          {q.upper[0], q.upper[1]},
          {step(0), step(1)},
          64,
          kWindowsOfCopy,
          false,
          2};
}

static void run_windows(const WindowCase& q) {
  auto stream = harness::hopper().make_stream();
  Buffer<uint16_t> x(3 * 8 * 6 * 72), y(kWindowsOfCopy * 64);
  std::vector<uint16_t> values(3 * 8 * 6 * 72), expected;
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint16_t>(i + 1);
  x.write(*stream, values);
  // By division, while the engine counts on.
  const int sizes[2] = {6, 8};
  int count[2], first[2];
  for (int i = 0; i < 2; ++i) {
    count[i] = (sizes[i] - 1 + q.upper[i] - q.lower[i]) / q.steps[i] + 1;
    first[i] = (q.at[i] - q.lower[i]) / q.steps[i];
  }
  for (int line = 0; line < kWindowsOfCopy; ++line) {
    const int window = (q.first_image * count[1] + first[1]) * count[0] + first[0] + line;
    const int column = q.lower[0] + window % count[0] * q.steps[0] + q.offsets[0];
    const int row = q.lower[1] + window / count[0] % count[1] * q.steps[1] + q.offsets[1];
    const int image = window / count[0] / count[1];
    for (int at = 0; at < 64; ++at) {
      const int channel = q.channel + ((at / 8) ^ (line % 8)) * 8 + at % 8;
      const bool inside =
          column >= 0 && column < 6 && row >= 0 && row < 8 && image < 3 && channel < 72;
      const int from = ((image * 8 + row) * 6 + column) * 72 + channel;
      expected.push_back(inside ? values[static_cast<size_t>(from)] : uint16_t{0});
    }
  }
  alignas(128) CUtensorMap map;
  EXPECT(encode_tensor_map(&map, windows_of(q, x.data())));
  launch(*stream, "windows", windows_kernel, 1, 32, sizeof(WindowColumn), map, q.channel, q.at[0],
         q.at[1], q.first_image, q.offsets[0], q.offsets[1], y.data());
  EXPECT(y.read(*stream) == expected);
}

CASE(window_copies) {
  run_windows({{0, 0}, {0, 0}, {1, 1}, {3, 2}, 0, 0, {0, 0}});
  run_windows({{-1, -1}, {-1, -1}, {1, 1}, {-1, 5}, 1, 0, {2, 1}});  // 3 by 3, padded by 1
  run_windows({{-2, 0}, {-2, -4}, {1, 1}, {3, 3}, 0, 16, {4, 2}});   // dilated; channels end
  run_windows({{-1, -1}, {-1, -2}, {2, 3}, {1, 2}, 0, 0, {1, 2}});   // strides
  run_windows({{-1, -1}, {-1, -1}, {1, 1}, {4, 6}, 2, 0, {1, 1}});   // images end
  run_windows({{-3, -128}, {120, -7}, {1, 8}, {100, -8}, 0, 0, {9, 255}});
}
CASE(window_must_start_in_the_box) {
  expect_error(
      [] {
        run_windows({{-1, -1}, {-1, -1}, {1, 1}, {5, 0}, 0, 0, {0, 0}});
      },
      "coordinate 1 must lie in the bounding box from -1 to 4, got 5");
}
CASE(window_offset_has_eight_bits) {
  expect_error(
      [] {
        run_windows({{0, 0}, {0, 0}, {1, 1}, {0, 0}, 0, 0, {0, 256}});
      },
      "offset 1 must have 8 bits, got 256");
}
CASE(window_map_rules) {
  harness::hopper_current();
  Buffer<uint16_t> x(3 * 8 * 6 * 72);
  const WindowCase q{{-1, -1}, {-1, -1}, {1, 1}, {}, 0, 0, {}};
  const auto refused = [&](auto change) {
    TensorWindows t = windows_of(q, x.data());
    change(t);
    alignas(128) CUtensorMap map;
    return !encode_tensor_map(&map, t);
  };
  EXPECT(!refused([](TensorWindows&) {}));
  EXPECT(refused([&](TensorWindows& t) { t.data = x.data() + 1; }));
  EXPECT(refused([](TensorWindows& t) { t.strides[0] = 150; }));
  EXPECT(refused([](TensorWindows& t) { t.lower[0] = -129; }));
  EXPECT(refused([](TensorWindows& t) { t.upper[1] = 128; }));
  EXPECT(refused([](TensorWindows& t) { t.upper[0] = -7; }));  // an empty box
  EXPECT(refused([](TensorWindows& t) { t.steps[1] = 9; }));
  EXPECT(refused([](TensorWindows& t) { t.steps[0] = 0; }));
  EXPECT(refused([](TensorWindows& t) { t.channels = 72; }));
  EXPECT(refused([](TensorWindows& t) { t.windows = 1025; }));
  EXPECT(refused([](TensorWindows& t) { t.sizes[3] = 0; }));
}

struct alignas(1024) Stored {
  uint16_t v[8][64];
};
template <bool kFence>
__global__ void store_kernel(const __grid_constant__ CUtensorMap map) {
  auto& s = shared_memory<Stored>();
  for (int i = static_cast<int>(threadIdx.x); i < 512; i += 32) {
    const int line = i / 64, at = i % 64;
    s.v[line][((at / 8) ^ line) * 8 + at % 8] = static_cast<uint16_t>(i);
  }
  if (kFence) fence_proxy_async();
  __syncwarp();
  if (threadIdx.x == 0) {
    store_box(&map, 8, 3, 0, s.v);
    bulk_commit();
    bulk_wait<0>();
  }
}
template <bool kFence>
static void run_store() {
  auto stream = harness::hopper().make_stream();
  Buffer<uint16_t> y(16 * 64);
  y.write(*stream, std::vector<uint16_t>(16 * 64, 7));
  const TensorBox box{y.data(), {64, 9, 1}, {128, 2048}, {64, 8, 1}, false, 2};
  alignas(128) CUtensorMap map;
  harness::hopper_current();
  EXPECT(encode_tensor_map(&map, box));
  launch(*stream, "store", store_kernel<kFence>, 1, 32, sizeof(Stored), map);
  const auto got = y.read(*stream);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 64; ++column) {
      const bool inside = row >= 3 && row < 9 && column >= 8;
      const int expected = inside ? (row - 3) * 64 + column - 8 : 7;
      EXPECT(got[static_cast<size_t>(row * 64 + column)] == expected);
    }
  }
}
CASE(tensor_store) { run_store<true>(); }
CHECKED_CASE(tensor_store_without_fence) { expect_error(run_store<false>, "fence.proxy.async"); }

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
