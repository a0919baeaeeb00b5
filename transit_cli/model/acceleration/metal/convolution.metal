// Convolution, bias and what follows, forward and back to the values.
//
// Defined before: VALUE and RESULT (types in memory), GRADIENT (of the result), C_IN, C_OUT, TAPS, PADDING, AFTER; KEEP (1
// or 0: whether what passed is stored for the way back);
// QUADS and SLOTS: a threadgroup of THREADS computes 4 QUADS channels of SLOTS x 8 bins; MATRICES: 1 where its SIMD-groups do
// so by 8 x 8 matrices; BACK_QUADS, BACK_SLOTS, BACK_THREADS and BACK_MATRICES: on the way back.
//
// Values lie as PyTorch has them, [B, C, L]. What is multiplied comes from threadgroup memory, 8 channels at a time. Without
// matrices a thread computes 4 channels of 8 bins in registers; with them a SIMD-group has all channels of 32 bins.

// 4 channels x 8 bins += weights of `depth` channels x TAPS times the bins around.
// tile [depth][width]; weights [depth][TAPS][quads]
inline void NAME(multiply)(threadgroup const float* tile, uint width, threadgroup const float4* weights, uint quads,
                           uint depth, uint slot, uint quad, thread float4* sums) {
  for (uint channel = 0; channel < depth; ++channel) {
    float near[8 + TAPS - 1];
    UNROLL for (uint i = 0; i < 8 + TAPS - 1; ++i) near[i] = tile[channel * width + slot * 8 + i];
    UNROLL for (uint tap = 0; tap < TAPS; ++tap) {
      const float4 weight = weights[(channel * TAPS + tap) * quads + quad];
      UNROLL for (uint bin = 0; bin < 8; ++bin) sums[bin] = fma(weight, float4(near[bin + tap]), sums[bin]);
    }
  }
}

// Rows of threadgroup memory that are read as matrices are 4 modulo 8 floats apart: then no two rows share a bank.
#define APART(floats) (((floats) + 3) / 8 * 8 + 4)

#if MATRICES || BACK_MATRICES
// 8 `rows` channels x 32 bins from `begin` on += weights of 8 channels x TAPS times the bins around.
// tile [8][width]; weights [8][APART(TAPS x 8 rows)]
template <uint rows>
inline void NAME(multiply_matrices)(threadgroup const float* tile, uint width, threadgroup const float* weights, uint begin,
                                    thread simdgroup_float8x8* sums) {
  UNROLL for (uint tap = 0; tap < TAPS; ++tap) {
    simdgroup_float8x8 left[rows], right;
    UNROLL for (uint i = 0; i < rows; ++i)
      simdgroup_load(left[i], weights + (tap * rows + i) * 8, APART(TAPS * rows * 8), ulong2(0), true);
    UNROLL for (uint j = 0; j < 4; ++j) {
      simdgroup_load(right, tile + begin + 8 * j + tap, width);
      UNROLL for (uint i = 0; i < rows; ++i)
        simdgroup_multiply_accumulate(sums[i * 4 + j], left[i], right, sums[i * 4 + j]);
    }
  }
}

// A SIMD-group's sums to where all threads can read them: to [8 rows][APART(bins)].
template <uint rows, uint bins>
inline void NAME(lay_out)(thread simdgroup_float8x8* sums, threadgroup float* to, uint begin) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  UNROLL for (uint i = 0; i < rows; ++i)
    UNROLL for (uint j = 0; j < 4; ++j) simdgroup_store(sums[i * 4 + j], to + 8 * i * APART(bins) + begin + 8 * j, APART(bins));
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
#endif

// What follows the convolution, stored at `at`; with PAIRS from two bins.
inline void NAME(finish)(float value, float second, uint at, device RESULT* result, device uchar* passed) {
  uchar origin = 1;
  if (AFTER == PAIRS && (second > value || not_a_number(second))) { value = second; origin = 2; }  // PyTorch's rule, NaN included
  if (AFTER != NOTHING) {
    if (KEEP) passed[at] = passes(value) ? origin : uchar(0);
    value = passes(value) ? value : 0.0f;
  }
  result[at] = RESULT(value);
}

// values [B, C_IN, L], weight [C_OUT, C_IN, TAPS], bias [C_OUT] -> result, passed [B, C_OUT, L_OUT]
// threads: [tiles of bins x THREADS, blocks of channels, B]
[[max_total_threads_per_threadgroup(THREADS)]]
kernel void NAME(convolve)(
    device const VALUE* values [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device RESULT* result [[buffer(3)]], device uchar* passed [[buffer(4)]],
    constant uint& length [[buffer(5)]], constant uint& length_out [[buffer(6)]],
    uint thread_ [[thread_index_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]],
    uint simd [[simdgroup_index_in_threadgroup]]) {
  constexpr uint bins = SLOTS * 8, depth = C_IN < 8 ? C_IN : 8, channels = QUADS * 4, staged = channels * APART(bins);
  constexpr uint width = MATRICES ? APART(bins + TAPS - 1) : bins + TAPS - 1;
  constexpr uint line = MATRICES ? APART(TAPS * channels) : TAPS * channels;
  constexpr uint around = (depth * width + 3) / 4 * 4, both = around + depth * line;
  threadgroup float4 memory[(MATRICES && both < staged ? staged : both) / 4];
  threadgroup float* tile = (threadgroup float*)memory;
  threadgroup float* weights = tile + around;
  const uint sample = group.z, begin = group.x * bins, out_begin = group.y * channels;
#if MATRICES
  simdgroup_float8x8 sums[QUADS * 2];
  UNROLL for (uint i = 0; i < QUADS * 2; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
#else
  const uint slot = thread_ / QUADS, quad = thread_ % QUADS;
  float4 sums[8];
  UNROLL for (uint i = 0; i < 4; ++i) {
    const uint channel = out_begin + quad * 4 + i;
    const float shift = channel < C_OUT ? bias[channel] : 0.0f;
    UNROLL for (uint bin = 0; bin < 8; ++bin) sums[bin][i] = shift;
  }
#endif
  for (uint first = 0; first < C_IN; first += depth) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < depth * width; i += THREADS) {
      const int bin = int(begin + i % width) - PADDING;
      const uint channel = first + i / width;
      const bool inside = channel < C_IN && bin >= 0 && bin < int(length);
      tile[i] = inside ? float(values[(sample * C_IN + channel) * length + uint(bin)]) : 0.0f;
    }
    for (uint i = thread_; i < depth * TAPS * channels; i += THREADS) {  // i as weight lies: [channel out][depth][TAPS]
      const uint out = i / (depth * TAPS), rest = i % (depth * TAPS);
      const bool inside = out_begin + out < C_OUT && first * TAPS + rest < C_IN * TAPS;
      weights[rest / TAPS * line + rest % TAPS * channels + out] = inside ? weight[((out_begin + out) * C_IN + first) * TAPS + rest] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if MATRICES
    NAME(multiply_matrices)<QUADS / 2>(tile, width, weights, simd * 32, sums);
#else
    NAME(multiply)(tile, width, (threadgroup const float4*)weights, QUADS, depth, slot, quad, sums);
#endif
  }
  constexpr uint step = AFTER == PAIRS ? 2 : 1;
#if MATRICES
  NAME(lay_out)<QUADS / 2, bins>(sums, tile, simd * 32);
  for (uint i = thread_; i < channels * bins / step; i += THREADS) {
    const uint out = i / (bins / step), at = i % (bins / step), channel = out_begin + out, to = begin / step + at;
    if (channel >= C_OUT || to >= length_out) continue;
    threadgroup const float* from = tile + out * APART(bins) + at * step;
    const float shift = bias[channel];
    NAME(finish)(from[0] + shift, from[step - 1] + shift, (sample * C_OUT + channel) * length_out + to, result, passed);
  }
#else
  UNROLL for (uint i = 0; i < 4; ++i) {
    const uint channel = out_begin + quad * 4 + i, row = (sample * C_OUT + channel) * length_out;
    UNROLL for (uint bin = 0; bin < 8; bin += step) {
      const uint to = (begin + slot * 8 + bin) / step;
      if (channel < C_OUT && to < length_out) NAME(finish)(sums[bin][i], sums[bin + step - 1][i], row + to, result, passed);
    }
  }
#endif
}

// gradient, passed, place (see gradient_before), weight [C_OUT, C_IN, TAPS] -> wanted [B, C_IN, L], that of the values
// threads: [tiles of bins x BACK_THREADS, blocks of channels, B]
[[max_total_threads_per_threadgroup(BACK_THREADS)]]
kernel void NAME(convolve_back)(
    device const GRADIENT* gradient [[buffer(0)]], device const uchar* passed [[buffer(1)]],
    device const int* place [[buffer(2)]], device const float* weight [[buffer(3)]], device VALUE* wanted [[buffer(4)]],
    constant uint& length [[buffer(5)]], constant uint& length_out [[buffer(6)]], constant uint& stride [[buffer(7)]],
    uint thread_ [[thread_index_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]],
    uint simd [[simdgroup_index_in_threadgroup]]) {
  constexpr uint bins = BACK_SLOTS * 8, depth = C_OUT < 8 ? C_OUT : 8, channels = BACK_QUADS * 4;
  constexpr uint staged = channels * APART(bins), width = BACK_MATRICES ? APART(bins + TAPS - 1) : bins + TAPS - 1;
  constexpr uint line = BACK_MATRICES ? APART(TAPS * channels) : TAPS * channels;
  constexpr uint around = (depth * width + 3) / 4 * 4, both = around + depth * line;
  threadgroup float4 memory[(BACK_MATRICES && both < staged ? staged : both) / 4];
  threadgroup float* tile = (threadgroup float*)memory;
  threadgroup float* weights = tile + around;
  const uint sample = group.z, begin = group.x * bins, in_begin = group.y * channels;
#if BACK_MATRICES
  simdgroup_float8x8 sums[BACK_QUADS * 2];
  UNROLL for (uint i = 0; i < BACK_QUADS * 2; ++i) sums[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
#else
  const uint slot = thread_ / BACK_QUADS, quad = thread_ % BACK_QUADS;
  float4 sums[8];
  UNROLL for (uint bin = 0; bin < 8; ++bin) sums[bin] = float4(0.0f);
#endif
  for (uint first = 0; first < C_OUT; first += depth) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < depth * width; i += BACK_THREADS) {
      const int bin = int(begin + i % width) + PADDING - (TAPS - 1);
      const uint channel = first + i / width;
      tile[i] = channel < C_OUT ? gradient_before<GRADIENT, AFTER>(gradient, passed, place, stride, sample, channel, C_OUT,
                                                                   bin, length_out)
                                : 0.0f;
    }
    for (uint i = thread_; i < depth * TAPS * channels; i += BACK_THREADS) {  // i: [depth][channel in][TAPS]
      const uint out = i / (channels * TAPS), to = i / TAPS % channels, tap = i % TAPS;
      const bool inside = first + out < C_OUT && in_begin + to < C_IN;
      const float found = inside ? weight[((first + out) * C_IN + in_begin + to) * TAPS + tap] : 0.0f;
      weights[out * line + (TAPS - 1 - tap) * channels + to] = found;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if BACK_MATRICES
    NAME(multiply_matrices)<BACK_QUADS / 2>(tile, width, weights, simd * 32, sums);
#else
    NAME(multiply)(tile, width, (threadgroup const float4*)weights, BACK_QUADS, depth, slot, quad, sums);
#endif
  }
#if BACK_MATRICES
  NAME(lay_out)<BACK_QUADS / 2, bins>(sums, tile, simd * 32);
  for (uint i = thread_; i < channels * bins; i += BACK_THREADS) {
    const uint channel = in_begin + i / bins, to = begin + i % bins;
    if (channel >= C_IN || to >= length) continue;
    wanted[(sample * C_IN + channel) * length + to] = VALUE(tile[i / bins * APART(bins) + i % bins]);
  }
#else
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint bin = 0; bin < 8; ++bin) {
      const uint channel = in_begin + quad * 4 + i, to = begin + slot * 8 + bin;
      if (channel < C_IN && to < length) wanted[(sample * C_IN + channel) * length + to] = VALUE(sums[bin][i]);
    }
#endif
}
#undef APART
