// The part of the Metal Shading Language that transit's kernels use, for a C++14 compiler on a CPU.
//
// compiler.py puts it before a .metal source; runtime.cpp runs the threads.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

typedef unsigned int uint;
typedef unsigned short ushort;
typedef unsigned char uchar;
typedef unsigned long ulong;
typedef _Float16 half;

extern "C" {
struct ShimLanes { const unsigned char (*values)[16]; uint32_t active; uint32_t lane; };
void shim_threadgroup_barrier(uint32_t flags, int line);
void shim_simdgroup_barrier(int line);
ShimLanes shim_exchange(const void* value, uint32_t size, int operation, int line);
void shim_threadgroup_memory(void* address, uint64_t bytes, const char* name);
uint32_t shim_position(int which, int dimension);
}

// bfloat: the upper half of a float32, rounded to nearest even. Arithmetic is float32's.
struct bfloat {
  uint16_t bits;
  bfloat() = default;
  explicit bfloat(float value) {
    uint32_t all;
    std::memcpy(&all, &value, 4);
    bits = (all & 0x7FFFFFFFu) > 0x7F800000u ? uint16_t(all >> 16 | 0x40) : uint16_t((all + 0x7FFF + (all >> 16 & 1)) >> 16);
  }
  operator float() const {
    const uint32_t all = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &all, 4);
    return value;
  }
};

namespace metal {

// ---------------------------------------------------------------------------------------------------------- vectors
template <class T, int N> struct vec;
#define SHIM_OPERATORS(N)                                                                              \
  T& operator[](int i) { return (&x)[i]; }                                                             \
  const T& operator[](int i) const { return (&x)[i]; }                                                 \
  template <class F> static vec make(F f) { vec r; for (int i = 0; i < N; ++i) r[i] = f(i); return r; } \
  friend vec operator+(vec a, vec b) { return make([&](int i) { return T(a[i] + b[i]); }); }           \
  friend vec operator-(vec a, vec b) { return make([&](int i) { return T(a[i] - b[i]); }); }           \
  friend vec operator*(vec a, vec b) { return make([&](int i) { return T(a[i] * b[i]); }); }           \
  vec& operator+=(vec b) { return *this = *this + b; }
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  vec() = default;
  vec(T s) : x(s), y(s) {}
  vec(T a, T b) : x(a), y(b) {}
  SHIM_OPERATORS(2)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {  // as large as four, as in MSL
  T x, y, z;
  vec() = default;
  vec(T s) : x(s), y(s), z(s) {}
  vec(T a, T b, T c) : x(a), y(b), z(c) {}
  SHIM_OPERATORS(3)
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  vec() = default;
  vec(T s) : x(s), y(s), z(s), w(s) {}
  vec(T a, T b, T c, T d) : x(a), y(b), z(c), w(d) {}
  SHIM_OPERATORS(4)
};
#undef SHIM_OPERATORS

// -------------------------------------------------------------------------------------------------------- functions
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
template <int N> vec<float, N> fma(vec<float, N> a, vec<float, N> b, vec<float, N> c) {
  return vec<float, N>::make([&](int i) { return __builtin_fmaf(a[i], b[i], c[i]); });
}
inline float sqrt(float v) { return __builtin_sqrtf(v); }
inline float exp(float v) { return std::exp(v); }
inline float log(float v) { return std::log(v); }
namespace precise { using metal::exp; using metal::log; using metal::sqrt; }
template <class T, class S> T as_type(S v) {
  static_assert(sizeof(T) == sizeof(S), "as_type keeps the size");
  T r;
  std::memcpy(&r, &v, sizeof(T));
  return r;
}

// ---------------------------------------------------------------------------------------------------------- threads
enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
#define SHIM_LINE int line = __builtin_LINE()
inline void threadgroup_barrier(mem_flags flags, SHIM_LINE) { shim_threadgroup_barrier(uint32_t(flags), line); }
inline void simdgroup_barrier(mem_flags, SHIM_LINE) { shim_simdgroup_barrier(line); }

namespace shim {
template <class T> struct Lanes {  // what each active lane of a SIMD-group brought
  ShimLanes all;
  Lanes(T value, int operation, int line) : all(shim_exchange(&value, sizeof(T), operation, line)) {
    static_assert(sizeof(T) <= 16, "a lane brings 16 bytes");
  }
  bool active(uint lane) const { return lane < 32 && (all.active >> lane & 1); }
  T operator[](uint lane) const { T r; std::memcpy(&r, all.values[lane], sizeof(T)); return r; }
  T from(uint lane) const {  // undefined in MSL from beyond the SIMD-group or a lane that has ended: garbage here
    if (active(lane)) return (*this)[lane];
    T r; std::memset(&r, 0xFF, sizeof(T)); return r;
  }
  template <class F> T reduce(F f) const {  // as a tree; the hardware's own order is not documented
    T held[32]; bool known[32];
    for (uint i = 0; i < 32; ++i) { known[i] = active(i); if (known[i]) held[i] = (*this)[i]; }
    for (uint step = 16; step; step /= 2)
      for (uint i = 0; i < step; ++i)
        if (known[i + step]) { held[i] = known[i] ? f(held[i], held[i + step]) : held[i + step]; known[i] = true; }
    return held[0];
  }
};
template <class T> struct Position { static T get(int which) { return T(shim_position(which, 0)); } };
template <class T> struct Position<vec<T, 2>> { static vec<T, 2> get(int w) { return {T(shim_position(w, 0)), T(shim_position(w, 1))}; } };
template <class T> struct Position<vec<T, 3>> {
  static vec<T, 3> get(int w) { return {T(shim_position(w, 0)), T(shim_position(w, 1)), T(shim_position(w, 2))}; }
};
}  // namespace shim
template <class T> T simd_sum(T v, SHIM_LINE) { return shim::Lanes<T>(v, 1, line).reduce([](T a, T b) { return T(a + b); }); }
template <class T> T simd_max(T v, SHIM_LINE) { return shim::Lanes<T>(v, 2, line).reduce([](T a, T b) { return a < b ? b : a; }); }
template <class T> T simd_shuffle_xor(T v, ushort mask, SHIM_LINE) { shim::Lanes<T> lanes(v, 3, line); return lanes.from(lanes.all.lane ^ mask); }
template <class T> T simd_shuffle_down(T v, ushort by, SHIM_LINE) { shim::Lanes<T> lanes(v, 4, line); return lanes.from(lanes.all.lane + by); }

// ---------------------------------------------------------------------------------------------- SIMD-group matrices
// 8 x 8, two elements a lane; which ones is not documented, so that kernels may not know either. The lanes meet in a product,
// and with checks in loads and stores too, which all lanes of a SIMD-group have to reach.
template <class T, int C, int R> struct simdgroup_matrix {
  static_assert(R == 8 && C == 8, "SIMD-group matrices are 8 x 8");
  T held[2];
};
typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
template <class T, int C, int R> simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, C, R> made;
  made.held[0] = made.held[1] = value;
  return made;
}
namespace shim {
inline void meet(int operation, int line) {
#ifdef SHIM_CHECKS
  (void)Lanes<int>(0, operation, line);
#endif
}
template <class F> void elements(ulong stride, vec<ulong, 2> origin, bool transposed, F f) {
  const uint lane = shim_position(6, 0);
  for (uint i = 0; i < 2; ++i) {
    const ulong row = lane / 4, column = lane % 4 * 2 + i;
    f(i, ((transposed ? column : row) + origin.y) * stride + (transposed ? row : column) + origin.x);
  }
}
}  // namespace shim
template <class T> void simdgroup_load(simdgroup_matrix<T, 8, 8>& to, const T* from, ulong stride = 8,
                                       vec<ulong, 2> origin = vec<ulong, 2>(0), bool transposed = false, SHIM_LINE) {
  shim::meet(20, line);
  shim::elements(stride, origin, transposed, [&](uint i, ulong at) { to.held[i] = from[at]; });
}
template <class T> void simdgroup_store(simdgroup_matrix<T, 8, 8> from, T* to, ulong stride = 8,
                                        vec<ulong, 2> origin = vec<ulong, 2>(0), bool transposed = false, SHIM_LINE) {
  shim::meet(21, line);
  shim::elements(stride, origin, transposed, [&](uint i, ulong at) { to[at] = from.held[i]; });
}
inline void simdgroup_multiply_accumulate(simdgroup_float8x8& d, simdgroup_float8x8 a, simdgroup_float8x8 b,
                                          simdgroup_float8x8 c, SHIM_LINE) {
  struct Pair { float a[2], b[2]; };
  const shim::Lanes<Pair> all(Pair{{a.held[0], a.held[1]}, {b.held[0], b.held[1]}}, 22, line);
  const uint lane = all.all.lane;
  d = c;
  for (uint k = 0; k < 8; ++k)
    for (uint i = 0; i < 2; ++i)
      d.held[i] = fma(all[lane / 4 * 4 + k / 2].a[k % 2], all[k * 4 + lane % 4].b[i], d.held[i]);
}
#undef SHIM_LINE
}  // namespace metal

#define SHIM_VECTORS(T) typedef metal::vec<T, 2> T##2; typedef metal::vec<T, 3> T##3; typedef metal::vec<T, 4> T##4;
SHIM_VECTORS(float) SHIM_VECTORS(int) SHIM_VECTORS(uint) SHIM_VECTORS(ulong)
#undef SHIM_VECTORS

// Address spaces are erased here; opencl_types.h has clang check them. `threadgroup` before a variable has been rewritten.
#define kernel
#define device
#define thread
#define threadgroup
#define constant const
