// CUDA's vector types: dim3, and one to four components of the arithmetic types, with the
// alignment that device code relies on.
#pragma once

#include <cstdint>

namespace nodegrad::emulation::api {

struct uint3 {
  unsigned x, y, z;
};
struct int3 {
  int x, y, z;
};
struct float3 {
  float x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

#define NODEGRAD_VECTOR_TYPES(T, name)                                               \
  struct alignas(2 * sizeof(T)) name##2 { T x, y; };                                 \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) name##4 { T x, y, z, w; }; \
  constexpr name##2 make_##name##2(T x, T y) { return {x, y}; }                      \
  constexpr name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }

NODEGRAD_VECTOR_TYPES(signed char, char)
NODEGRAD_VECTOR_TYPES(unsigned char, uchar)
NODEGRAD_VECTOR_TYPES(short, short)
NODEGRAD_VECTOR_TYPES(unsigned short, ushort)
NODEGRAD_VECTOR_TYPES(int, int)
NODEGRAD_VECTOR_TYPES(unsigned, uint)
NODEGRAD_VECTOR_TYPES(long long, longlong)
NODEGRAD_VECTOR_TYPES(unsigned long long, ulonglong)
NODEGRAD_VECTOR_TYPES(float, float)
NODEGRAD_VECTOR_TYPES(double, double)
#undef NODEGRAD_VECTOR_TYPES

constexpr uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
constexpr int3 make_int3(int x, int y, int z) { return {x, y, z}; }
constexpr float3 make_float3(float x, float y, float z) { return {x, y, z}; }

}  // namespace nodegrad::emulation::api
