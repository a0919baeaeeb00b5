// Declarations of the part of MSL that transit's kernels use, for clang's "C++ for OpenCL", the one language of upstream clang
// that has Metal's address spaces. Only types are checked; nothing of this runs.
#pragma OPENCL EXTENSION __cl_clang_non_portable_kernel_param_types : enable
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
#define VECTORS(T) \
  typedef T T##2 __attribute__((ext_vector_type(2))); \
  typedef T T##3 __attribute__((ext_vector_type(3))); \
  typedef T T##4 __attribute__((ext_vector_type(4)));
VECTORS(float) VECTORS(half) VECTORS(int) VECTORS(uint) VECTORS(ulong)
#undef VECTORS
#define bfloat half  // as a type with conversions of its own, it would need a constructor for each address space
#define INFINITY __builtin_inff()
namespace metal {
enum class mem_flags { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
template <class T> T min(T, T);
template <class T> T max(T, T);
template <class T> T fma(T, T, T);
template <class T, class S> T as_type(S);
namespace precise { float sqrt(float); float exp(float); float log(float); }
template <class T> T simd_sum(T);
template <class T> T simd_max(T);
template <class T> T simd_shuffle_xor(T, ushort);
template <class T> T simd_shuffle_down(T, ushort);
typedef float simdgroup_float8x8 __attribute__((ext_vector_type(16)));  // a class could not be copied without generic addresses
template <class T, int C, int R> simdgroup_float8x8 make_filled_simdgroup_matrix(T);
#define MATRICES_IN(SPACE) \
  void simdgroup_load(__private simdgroup_float8x8&, const SPACE float*, ulong = 8, ulong2 = 0, bool = false); \
  void simdgroup_store(simdgroup_float8x8, SPACE float*, ulong = 8, ulong2 = 0, bool = false);
MATRICES_IN(__local) MATRICES_IN(__global)
#undef MATRICES_IN
void simdgroup_multiply_accumulate(__private simdgroup_float8x8&, simdgroup_float8x8, simdgroup_float8x8, simdgroup_float8x8);
}
#define device __global
#define threadgroup __local
#define thread __private
#define constant __constant
#define kernel __kernel
