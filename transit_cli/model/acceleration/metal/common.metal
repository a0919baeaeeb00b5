// What every kernel of transit shares. Comes first, once, in each source that is compiled.
//
// The files beside this one are included once for each set of numbers that a network needs: Python defines the numbers
// before the text, NAME(x) as a name of its own for each kernel, and undefines all of it after the text.
#include <metal_stdlib>
using namespace metal;

// Array elements stay in registers only where every index is known when the kernel is compiled.
#define UNROLL _Pragma("clang loop unroll(full)")

// What follows a convolution: nothing; ReLU; max-pooling over pairs of bins, then ReLU; ReLU, then each channel's average
// and maximum.
#define NOTHING 0
#define RELU 1
#define PAIRS 2
#define POOLED 3

// By its bits: the compiler may take for granted that there are no NaN when it is told to compute fast.
inline bool not_a_number(float value) { return (as_type<uint>(value) & 0x7FFFFFFFu) > 0x7F800000u; }

// Whether ReLU lets a value pass. NaN passes, as in PyTorch.
inline bool passes(float value) { return value > 0.0f || not_a_number(value); }

// The gradient in front of pooling and ReLU at a bin: that of the output which this bin became, or 0.
//
// passed [B, C, L_OUT]: 0 where ReLU stopped the value; otherwise 1, or with PAIRS 1 + which of the two bins it was.
// gradient: [B, C, L_OUT]; with POOLED rows of 2 C, averages then maxima, `stride` apart; place [B, C] is the maximum's bin.
template <typename G, int AFTER>
inline float gradient_before(device const G* gradient, device const uchar* passed, device const int* place, uint stride,
                             uint sample, uint channel, uint channels, int bin, uint length_out) {
  const int from = AFTER == PAIRS ? bin >> 1 : bin;
  if (bin < 0 || from >= int(length_out)) return 0.0f;
  const uint row = sample * channels + channel;
  const uint at = row * length_out + uint(from);
  if (AFTER != NOTHING && passed[at] != (AFTER == PAIRS ? uchar(1 + (bin & 1)) : uchar(1))) return 0.0f;
  if (AFTER != POOLED) return float(gradient[at]);
  device const G* both = gradient + sample * stride + channel;
  const float average = float(both[0]) / float(length_out);
  return place[row] == from ? average + float(both[channels]) : average;
}

// The sum of a threadgroup's numbers, the same in every thread. `held` has a number for each SIMD-group.
inline float sum_of_group(float value, threadgroup float* held, uint lane, uint simd, uint simds) {
  value = simd_sum(value);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (lane == 0) held[simd] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0.0f;
  for (uint i = 0; i < simds; ++i) sum += held[i];
  return sum;
}
