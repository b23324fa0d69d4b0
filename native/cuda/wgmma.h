// Warpgroup products (sm_90a): D[64,N] (+)= A[64,K]·B[K,N] with K = 32 bytes, operands in shared
// memory in lines of 128 (or 64) bytes with the swizzle of that size, A also in registers. Thread
// 32w + 4g + t of the warpgroup holds d[4j + 2h + i] = D(16w + 8h + g, 8j + 2t + i), and of A in
// registers A(16w + 8·(r % 2) + g, 8·(r / 2) + 2t + i) in half i of word r, in TF32
// A(16w + 8·(r % 2) + g, 4·(r / 2) + t) in word r.
// Descriptor (PTX ISA, "Matrix Descriptor Format"): address/16 in bits 0-13, leading offset/16 in
// 16-29, stride offset/16 in 32-45, 1 (2) << 62 for the 128-byte (64-byte) swizzle. Layouts:
//   along K     lines are rows of M or N; 8 rows repeat at the stride offset; the next 32 bytes of
//               K start 32 bytes on, which the swizzle, made of address bits, allows.
//   along M, N  lines are K, of 64 (32) elements of M or N each; 8 lines repeat at the stride
//               offset, the next elements at the leading one. 16-bit types alone.
#pragma once

#include "mbarrier.h"

#if defined(NODEGRAD_EMULATED) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define NODEGRAD_HAS_WGMMA 1
#endif

namespace nodegrad::NODEGRAD_CUDA_NAMESPACE {

enum class WgmmaType { bfloat16, float16, tf32 };

// Whether this build's kernels have wgmma on a chip of capability 9.0, where older PTX may run,
// too.
bool has_wgmma(Stream& stream);

__device__ __forceinline__ uint64_t wgmma_descriptor(const void* shared, uint32_t leading,
                                                     uint32_t stride, int line = 128) {
  return static_cast<uint64_t>((shared_address(shared) & 0x3ffff) >> 4) |
         static_cast<uint64_t>(leading >> 4) << 16 | static_cast<uint64_t>(stride >> 4) << 32 |
         uint64_t{line == 128 ? 1u : 2u} << 62;
}

#ifdef NODEGRAD_EMULATED

inline void wgmma_fence() { emulation::product_fence(); }
inline void wgmma_commit(NODEGRAD_SITE) { emulation::product_commit(file, line); }
template <int kInFlight>
void wgmma_wait(NODEGRAD_SITE) {
  emulation::product_wait(kInFlight, file, line);
}
template <WgmmaType kType, int kN, bool kATransposed, bool kBTransposed>
void wgmma(float (&d)[kN / 2], uint64_t a, uint64_t b, bool accumulate) {
  emulation::product_issue({a, b, static_cast<emulation::ProductType>(kType), kN, kATransposed,
                            kBTransposed, accumulate, false},
                           d);
}
template <WgmmaType kType, int kN, bool kBTransposed>
void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
  emulation::product_issue(
      {0, b, static_cast<emulation::ProductType>(kType), kN, false, kBTransposed, accumulate, true},
      d, a);
}
template <class T, int kCount>
void wgmma_touch(T (&)[kCount]) {}
inline bool elect_one(NODEGRAD_SITE) { return emulation::elect_lane(file, line); }
template <int kRegisters>
void raise_registers() {
  emulation::set_max_registers(kRegisters);
}
template <int kRegisters>
void lower_registers() {
  emulation::set_max_registers(kRegisters);
}

#else

// Before the first product, and wherever the accumulators were touched since the last wait.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kInFlight>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kInFlight) : "memory");
}

// Keeps the compiler from moving uses of accumulators or operands across this point.
template <int kCount>
__device__ __forceinline__ void wgmma_touch(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void wgmma_touch(uint32_t (&a)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(a[i])::"memory");
}

// Register lists, 32, 16 or 4 at a time: the instruction's text, and its operands.
#define NODEGRAD_R0_EIGHTH "%0,%1,%2,%3"
#define NODEGRAD_R0_HALF "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define NODEGRAD_R1_HALF ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define NODEGRAD_R0                                                                \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21," \
  "%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define NODEGRAD_R1                                                                   \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
  "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define NODEGRAD_R2                                                                   \
  ",%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83," \
  "%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define NODEGRAD_R3                                                               \
  ",%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111," \
  "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define NODEGRAD_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NODEGRAD_D16(i) NODEGRAD_D4(i), NODEGRAD_D4(i + 4), NODEGRAD_D4(i + 8), NODEGRAD_D4(i + 12)
#define NODEGRAD_D32(i) NODEGRAD_D16(i), NODEGRAD_D16(i + 16)

// The numbers are those of the operands after the accumulators: A, B, scale-d, transpositions.
#define NODEGRAD_WGMMA_16BIT(n, type, a, b, s, ta, tb, registers, ...)                        \
  asm volatile("{\n.reg .pred scale;\nsetp.ne.b32 scale, %" #s                                \
               ", 0;\n"                                                                       \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" registers \
               "}, %" #a ", %" #b ", scale, 1, 1, %" #ta ", %" #tb ";\n}"                     \
               : __VA_ARGS__                                                                  \
               : "l"(a_descriptor), "l"(b_descriptor), "r"(static_cast<int>(accumulate)),     \
                 "n"(static_cast<int>(kATransposed)), "n"(static_cast<int>(kBTransposed)))
#define NODEGRAD_WGMMA_TF32(n, a, b, s, registers, ...)                                        \
  asm volatile("{\n.reg .pred scale;\nsetp.ne.b32 scale, %" #s                                 \
               ", 0;\n"                                                                        \
               "wgmma.mma_async.sync.aligned.m64n" #n "k8.f32.tf32.tf32 {" registers "}, %" #a \
               ", %" #b ", scale, 1, 1;\n}"                                                    \
               : __VA_ARGS__                                                                   \
               : "l"(a_descriptor), "l"(b_descriptor), "r"(static_cast<int>(accumulate)))
#define NODEGRAD_WGMMA(n, a, b, s, ta, tb, registers, ...)                    \
  if constexpr (kType == WgmmaType::bfloat16) {                               \
    NODEGRAD_WGMMA_16BIT(n, "bf16", a, b, s, ta, tb, registers, __VA_ARGS__); \
  } else if constexpr (kType == WgmmaType::float16) {                         \
    NODEGRAD_WGMMA_16BIT(n, "f16", a, b, s, ta, tb, registers, __VA_ARGS__);  \
  } else {                                                                    \
    NODEGRAD_WGMMA_TF32(n, a, b, s, registers, __VA_ARGS__);                  \
  }

// D = A·B, plus what D holds where `accumulate`. Runs on until a wait; `d` is not to be touched.
template <WgmmaType kType, int kN, bool kATransposed, bool kBTransposed>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], uint64_t a_descriptor,
                                      uint64_t b_descriptor, bool accumulate) {
  static_assert(kN == 8 || kN == 32 || kN == 64 || kN == 128 || kN == 192 || kN == 256);
  if constexpr (kN == 8) {
    NODEGRAD_WGMMA(8, 4, 5, 6, 7, 8, NODEGRAD_R0_EIGHTH, NODEGRAD_D4(0))
  } else if constexpr (kN == 32) {
    NODEGRAD_WGMMA(32, 16, 17, 18, 19, 20, NODEGRAD_R0_HALF, NODEGRAD_D16(0))
  } else if constexpr (kN == 64) {
    NODEGRAD_WGMMA(64, 32, 33, 34, 35, 36, NODEGRAD_R0, NODEGRAD_D32(0))
  } else if constexpr (kN == 128) {
    NODEGRAD_WGMMA(128, 64, 65, 66, 67, 68, NODEGRAD_R0 NODEGRAD_R1, NODEGRAD_D32(0),
                   NODEGRAD_D32(32))
  } else if constexpr (kN == 192) {
    NODEGRAD_WGMMA(192, 96, 97, 98, 99, 100, NODEGRAD_R0 NODEGRAD_R1 NODEGRAD_R2, NODEGRAD_D32(0),
                   NODEGRAD_D32(32), NODEGRAD_D32(64))
  } else {
    NODEGRAD_WGMMA(256, 128, 129, 130, 131, 132, NODEGRAD_R0 NODEGRAD_R1 NODEGRAD_R2 NODEGRAD_R3,
                   NODEGRAD_D32(0), NODEGRAD_D32(32), NODEGRAD_D32(64), NODEGRAD_D32(96))
  }
}

#define NODEGRAD_WGMMA_LEFT_OF(n, type, a0, a1, a2, a3, b, s, tb, registers, ...)                \
  asm volatile("{\n.reg .pred scale;\nsetp.ne.b32 scale, %" #s                                   \
               ", 0;\n"                                                                          \
               "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" registers    \
               "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", scale, 1, 1, %" #tb ";\n}" \
               : __VA_ARGS__                                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor),                  \
                 "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(kBTransposed)))
#define NODEGRAD_WGMMA_LEFT_TF32(n, a0, a1, a2, a3, b, s, registers, ...)                        \
  asm volatile("{\n.reg .pred scale;\nsetp.ne.b32 scale, %" #s                                   \
               ", 0;\n"                                                                          \
               "wgmma.mma_async.sync.aligned.m64n" #n "k8.f32.tf32.tf32 {" registers "}, {%" #a0 \
               ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b ", scale, 1, 1;\n}"                       \
               : __VA_ARGS__                                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_descriptor),                  \
                 "r"(static_cast<int>(accumulate)))
#define NODEGRAD_WGMMA_LEFT(n, a0, a1, a2, a3, b, s, tb, registers, ...)                 \
  if constexpr (kType == WgmmaType::bfloat16) {                                          \
    NODEGRAD_WGMMA_LEFT_OF(n, "bf16", a0, a1, a2, a3, b, s, tb, registers, __VA_ARGS__); \
  } else if constexpr (kType == WgmmaType::float16) {                                    \
    NODEGRAD_WGMMA_LEFT_OF(n, "f16", a0, a1, a2, a3, b, s, tb, registers, __VA_ARGS__);  \
  } else {                                                                               \
    NODEGRAD_WGMMA_LEFT_TF32(n, a0, a1, a2, a3, b, s, registers, __VA_ARGS__);           \
  }

// The same with A in registers, which stay as they are until the wait.
template <WgmmaType kType, int kN, bool kBTransposed>
__device__ __forceinline__ void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4],
                                      uint64_t b_descriptor, bool accumulate) {
  static_assert(kN == 32 || kN == 64 || kN == 96 || kN == 128 || kN == 192 || kN == 256);
  static_assert(kType != WgmmaType::tf32 || !kBTransposed);
  if constexpr (kN == 32) {
    NODEGRAD_WGMMA_LEFT(32, 16, 17, 18, 19, 20, 21, 22, NODEGRAD_R0_HALF, NODEGRAD_D16(0))
  } else if constexpr (kN == 64) {
    NODEGRAD_WGMMA_LEFT(64, 32, 33, 34, 35, 36, 37, 38, NODEGRAD_R0, NODEGRAD_D32(0))
  } else if constexpr (kN == 96) {
    NODEGRAD_WGMMA_LEFT(96, 48, 49, 50, 51, 52, 53, 54, NODEGRAD_R0 NODEGRAD_R1_HALF,
                        NODEGRAD_D32(0), NODEGRAD_D16(32))
  } else if constexpr (kN == 128) {
    NODEGRAD_WGMMA_LEFT(128, 64, 65, 66, 67, 68, 69, 70, NODEGRAD_R0 NODEGRAD_R1, NODEGRAD_D32(0),
                        NODEGRAD_D32(32))
  } else if constexpr (kN == 192) {
    NODEGRAD_WGMMA_LEFT(192, 96, 97, 98, 99, 100, 101, 102, NODEGRAD_R0 NODEGRAD_R1 NODEGRAD_R2,
                        NODEGRAD_D32(0), NODEGRAD_D32(32), NODEGRAD_D32(64))
  } else {
    NODEGRAD_WGMMA_LEFT(256, 128, 129, 130, 131, 132, 133, 134,
                        NODEGRAD_R0 NODEGRAD_R1 NODEGRAD_R2 NODEGRAD_R3, NODEGRAD_D32(0),
                        NODEGRAD_D32(32), NODEGRAD_D32(64), NODEGRAD_D32(96))
  }
}

#undef NODEGRAD_WGMMA_LEFT
#undef NODEGRAD_WGMMA_LEFT_TF32
#undef NODEGRAD_WGMMA_LEFT_OF
#undef NODEGRAD_WGMMA
#undef NODEGRAD_WGMMA_TF32
#undef NODEGRAD_WGMMA_16BIT
#undef NODEGRAD_D32
#undef NODEGRAD_D16
#undef NODEGRAD_D4
#undef NODEGRAD_R3
#undef NODEGRAD_R2
#undef NODEGRAD_R1
#undef NODEGRAD_R0
#undef NODEGRAD_R1_HALF
#undef NODEGRAD_R0_HALF
#undef NODEGRAD_R0_EIGHTH

// One lane of a whole warp.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected;
  asm volatile("{\n.reg .pred mine;\nelect.sync _|mine, 0xffffffff;\nselp.b32 %0, 1, 0, mine;\n}"
               : "=r"(elected));
  return elected != 0;
}

// A whole warpgroup takes registers from the block's pool, or gives some back.
template <int kRegisters>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#endif

}  // namespace nodegrad::NODEGRAD_CUDA_NAMESPACE
