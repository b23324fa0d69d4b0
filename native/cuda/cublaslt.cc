// cuBLASLt by dlopen, with our own declarations of the functions that it has had since CUDA 11.
// Each symbol is probed. Row-major C = A·B is given to it as column-major Cᵀ = Bᵀ·Aᵀ. Descriptors
// and the algorithm its heuristic chose are kept per shape and device; workspace is the stream's
// scratch. The emulated device has no cuBLASLt.
// Source: NVIDIA cuBLAS documentation, "Using the cuBLASLt API".
#include "cublaslt.h"

#ifdef NODEGRAD_EMULATED

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

const char* cublaslt_missing() { return "the emulated device has none"; }
bool cublaslt_gemm(Stream&, const GemmArgs&) { return false; }

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE

#else

#include <dlfcn.h>

#include <array>
#include <map>
#include <mutex>
#include <string>

#include "core/error.h"
#include "launch.h"

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {
namespace {

using Handle = struct LtContext*;
using MatmulDesc = struct LtMatmulDesc*;
using Layout = struct LtLayout*;
using Preference = struct LtPreference*;
using Status = int;

struct Algorithm {
  uint64_t data[8];
};
struct HeuristicResult {
  Algorithm algorithm;
  size_t workspace_bytes;
  Status state;
  float waves;
  int reserved[4];
};

enum DataType : int { kReal32F = 0, kReal64F = 1, kReal16F = 2, kReal16BF = 14 };
enum ComputeType : int {
  kCompute32F = 68,
  kCompute64F = 70,
  kCompute32FFast16BF = 75,
  kCompute32FFastTF32 = 77,
};
enum DescAttribute : int { kTransA = 3, kTransB = 4, kEpilogue = 7, kBiasPointer = 8 };
enum LayoutAttribute : int { kBatchCount = 5, kBatchStride = 6 };
enum PreferenceAttribute : int {
  kMaxWorkspaceBytes = 1,
  kMinAlignmentA = 5,
  kMinAlignmentB = 6,
  kMinAlignmentC = 7,
  kMinAlignmentD = 8,
};
enum Epilogue : int {
  kEpilogueDefault = 1,
  kEpilogueRelu = 2,
  kEpilogueBias = 4,
  kEpilogueReluBias = 6,
};
constexpr size_t kWorkspaceBytes = size_t{32} << 20;
constexpr size_t kMostPlans = 1024;

struct Library {
  std::string missing;  // empty where everything was found
  Status (*create)(Handle*);
  Status (*desc_create)(MatmulDesc*, int compute, int scale);
  Status (*desc_destroy)(MatmulDesc);
  Status (*desc_set)(MatmulDesc, int attribute, const void* value, size_t bytes);
  Status (*layout_create)(Layout*, int type, uint64_t rows, uint64_t columns, int64_t ld);
  Status (*layout_destroy)(Layout);
  Status (*layout_set)(Layout, int attribute, const void* value, size_t bytes);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, MatmulDesc, Layout a, Layout b, Layout c, Layout d, Preference,
                      int asked, HeuristicResult*, int* found);
  Status (*matmul)(Handle, MatmulDesc, const void* alpha, const void* a, Layout, const void* b,
                   Layout, const void* beta, const void* c, Layout, void* d, Layout,
                   const Algorithm*, void* workspace, size_t workspace_bytes, cudaStream_t);
};

Library* open_library() {
  auto* library = new Library{};
  void* file = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (!file) file = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (!file) {
    library->missing = "libcublasLt.so.13 and .12 are not installed where the loader looks";
    return library;
  }
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)> >(dlsym(file, name));
    if (!function) library->missing = std::string("the installed library has no ") + name;
  };
  find(library->create, "cublasLtCreate");
  find(library->desc_create, "cublasLtMatmulDescCreate");
  find(library->desc_destroy, "cublasLtMatmulDescDestroy");
  find(library->desc_set, "cublasLtMatmulDescSetAttribute");
  find(library->layout_create, "cublasLtMatrixLayoutCreate");
  find(library->layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(library->layout_set, "cublasLtMatrixLayoutSetAttribute");
  find(library->preference_create, "cublasLtMatmulPreferenceCreate");
  find(library->preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(library->preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(library->heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(library->matmul, "cublasLtMatmul");
  return library;
}

// Never freed: the driver may be gone before static destructors run.
Library& library() {
  static Library* opened = open_library();
  return *opened;
}

void expect(Status status, const char* call) {
  if (status != 0) fail("matmul: %s failed, got cuBLAS status %d", call, status);
}

// Everything that the choice of an algorithm depends on. The pointers count by their alignment.
using PlanKey = std::array<int64_t, 18>;

struct Plan {
  MatmulDesc desc = nullptr;
  Layout a = nullptr, b = nullptr, c = nullptr;
  Algorithm algorithm{};
  size_t workspace_bytes = 0;
  bool found = false;
};

struct Device {
  Handle handle = nullptr;
  std::map<PlanKey, Plan> plans;
};

int alignment_of(const void* p) {
  const auto low = reinterpret_cast<uintptr_t>(p) | 256;
  return static_cast<int>(low & (~low + 1));
}

int data_type(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return kReal64F;
    case DType::bfloat16:
      return kReal16BF;
    case DType::float16:
      return kReal16F;
    default:
      return kReal32F;
  }
}

int compute_type(const GemmArgs& args) {
  if (args.dtype == DType::float64) return kCompute64F;
  if (args.dtype != DType::float32 || args.precision == Precision::highest) return kCompute32F;
  return args.precision == Precision::high ? kCompute32FFastTF32 : kCompute32FFast16BF;
}

int epilogue_of(const GemmArgs& args) {
  if (args.accumulate) return kEpilogueDefault;
  const bool relu = args.activation == Activation::relu;
  if (args.bias) return relu ? kEpilogueReluBias : kEpilogueBias;
  return relu ? kEpilogueRelu : kEpilogueDefault;
}

PlanKey key_of(const GemmArgs& g) {
  return {g.m,
          g.n,
          g.k,
          g.batch,
          g.a_row,
          g.a_col,
          g.b_row,
          g.b_col,
          g.c_row,
          g.a_batch,
          g.b_batch,
          g.c_batch,
          static_cast<int64_t>(g.dtype),
          compute_type(g),
          epilogue_of(g) | (g.accumulate ? 256 : 0),
          alignment_of(g.a),
          alignment_of(g.b),
          alignment_of(g.c)};
}

// A row-major [rows, columns] matrix with one unit stride, as a column-major one of its transpose
// or, where rows are contiguous, of itself with `transposed` set.
Layout make_layout(Library& lt, int type, int64_t rows, int64_t columns, int64_t row_stride,
                   int64_t column_stride, int64_t batch, int64_t batch_stride, bool* transposed) {
  *transposed = column_stride != 1;
  const int64_t inner = *transposed ? rows : columns, outer = *transposed ? columns : rows;
  // A leading dimension over a single line is arbitrary, but cuBLASLt wants it no smaller.
  const int64_t stride = *transposed ? column_stride : row_stride;
  Layout layout = nullptr;
  expect(lt.layout_create(&layout, type, inner, outer, outer == 1 ? inner : stride),
         "cublasLtMatrixLayoutCreate");
  const int32_t count = static_cast<int32_t>(batch);
  expect(lt.layout_set(layout, kBatchCount, &count, sizeof(count)),
         "cublasLtMatrixLayoutSetAttribute");
  expect(lt.layout_set(layout, kBatchStride, &batch_stride, sizeof(batch_stride)),
         "cublasLtMatrixLayoutSetAttribute");
  return layout;
}

// Broadcast operands, which cuBLASLt does not take.
bool lines_overlap(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  return column_stride == 1 ? rows > 1 && row_stride < columns
                            : columns > 1 && column_stride < rows;
}

void destroy(Library& lt, Plan& plan) {
  if (plan.desc) lt.desc_destroy(plan.desc);
  for (Layout layout : {plan.a, plan.b, plan.c}) {
    if (layout) lt.layout_destroy(layout);
  }
}

void make_plan(Library& lt, Handle handle, const GemmArgs& g, Plan& plan) {
  const int type = data_type(g.dtype);
  bool a_transposed, b_transposed, c_transposed;
  plan.a = make_layout(lt, type, g.m, g.k, g.a_row, g.a_col, g.batch, g.a_batch, &a_transposed);
  plan.b = make_layout(lt, type, g.k, g.n, g.b_row, g.b_col, g.batch, g.b_batch, &b_transposed);
  plan.c = make_layout(lt, type, g.m, g.n, g.c_row, 1, g.batch, g.c_batch, &c_transposed);
  const int scale = g.dtype == DType::float64 ? kReal64F : kReal32F;
  expect(lt.desc_create(&plan.desc, compute_type(g), scale), "cublasLtMatmulDescCreate");
  const auto set_desc = [&](int attribute, const auto& value) {
    expect(lt.desc_set(plan.desc, attribute, &value, sizeof(value)),
           "cublasLtMatmulDescSetAttribute");
  };
  // Column-major, our b comes first.
  set_desc(kTransA, static_cast<int32_t>(b_transposed));
  set_desc(kTransB, static_cast<int32_t>(a_transposed));
  set_desc(kEpilogue, static_cast<int32_t>(epilogue_of(g)));
  if (g.bias) set_desc(kBiasPointer, g.bias);

  Preference preference = nullptr;
  expect(lt.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
  const uint64_t workspace = kWorkspaceBytes;
  Status status = lt.preference_set(preference, kMaxWorkspaceBytes, &workspace, sizeof(workspace));
  const std::pair<int, const void*> operands[] = {
      {kMinAlignmentA, g.b}, {kMinAlignmentB, g.a}, {kMinAlignmentC, g.c}, {kMinAlignmentD, g.c}};
  for (const auto& [attribute, pointer] : operands) {
    const uint32_t alignment = alignment_of(pointer);
    if (status == 0) status = lt.preference_set(preference, attribute, &alignment, 4);
  }
  HeuristicResult result{};
  int found = 0;
  if (status == 0) {
    const Status asked = lt.heuristic(handle, plan.desc, plan.b, plan.a, plan.c, plan.c, preference,
                                      1, &result, &found);
    plan.found = asked == 0 && found > 0 && result.state == 0;
  }
  lt.preference_destroy(preference);
  expect(status, "cublasLtMatmulPreferenceSetAttribute");
  plan.algorithm = result.algorithm;
  plan.workspace_bytes = result.workspace_bytes;
}

}  // namespace

const char* cublaslt_missing() {
  return library().missing.empty() ? nullptr : library().missing.c_str();
}

bool cublaslt_gemm(Stream& stream, const GemmArgs& args) {
  static std::mutex mutex;
  static auto* devices = new std::map<int, Device>;
  if (args.batch > INT32_MAX || lines_overlap(args.m, args.k, args.a_row, args.a_col) ||
      lines_overlap(args.k, args.n, args.b_row, args.b_col)) {
    return false;
  }

  Library& lt = library();
  cudaStream_t queue = prepare_launch(stream, "matmul", nullptr, 0);
  int index = 0;
  NODEGRAD_CUDA_CALL("matmul", cudaGetDevice, &index);

  std::lock_guard<std::mutex> lock(mutex);
  Device& device = (*devices)[index];
  if (!device.handle) expect(lt.create(&device.handle), "cublasLtCreate");
  if (device.plans.size() >= kMostPlans) {
    for (auto& [key, plan] : device.plans) destroy(lt, plan);
    device.plans.clear();
  }
  const PlanKey key = key_of(args);
  auto entry = device.plans.find(key);
  if (entry == device.plans.end()) {
    Plan plan;
    try {
      make_plan(lt, device.handle, args, plan);
    } catch (...) {
      destroy(lt, plan);
      throw;
    }
    entry = device.plans.emplace(key, plan).first;
  }
  const Plan& plan = entry->second;
  if (!plan.found) return false;

  if (epilogue_of(args) & kEpilogueBias) {
    expect(lt.desc_set(plan.desc, kBiasPointer, &args.bias, sizeof(args.bias)),
           "cublasLtMatmulDescSetAttribute");
  }
  const double added = args.accumulate ? 1 : 0;
  const float scale_float = static_cast<float>(args.scale), added_float = args.accumulate ? 1 : 0;
  const bool wide = args.dtype == DType::float64;
  const void* alpha = wide ? static_cast<const void*>(&args.scale) : &scale_float;
  const void* beta = wide ? static_cast<const void*>(&added) : &added_float;
  void* workspace = plan.workspace_bytes ? acquire_scratch(stream, plan.workspace_bytes) : nullptr;
  const Status status =
      lt.matmul(device.handle, plan.desc, alpha, args.b, plan.b, args.a, plan.a, beta, args.c,
                plan.c, args.c, plan.c, &plan.algorithm, workspace, plan.workspace_bytes, queue);
  check_launch(cudaSuccess, "matmul");
  if (workspace) release_scratch(stream, workspace);
  expect(status, "cublasLtMatmul");
  return true;
}

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE

#endif
