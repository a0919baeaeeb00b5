// Convolution, bias and what follows, forward and back to the values.
//
// Defined before: VALUE and RESULT (types in memory), GRADIENT (of the result), C_IN, C_OUT, TAPS, PADDING, AFTER;
// QUADS and SLOTS: a threadgroup computes 4 QUADS channels of SLOTS x 8 bins; BACK_QUADS and BACK_SLOTS: on the way back.
//
// Values lie as PyTorch has them, [B, C, L]. A thread computes 4 channels of 8 bins in registers; what it multiplies comes
// from threadgroup memory, 8 channels at a time.

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

// values [B, C_IN, L], weight [C_OUT, C_IN, TAPS], bias [C_OUT] -> result, passed [B, C_OUT, L_OUT]
// threads: [tiles of bins x QUADS x SLOTS, blocks of channels, B]
[[max_total_threads_per_threadgroup(QUADS * SLOTS)]]
kernel void NAME(convolve)(
    device const VALUE* values [[buffer(0)]], device const float* weight [[buffer(1)]],
    device const float* bias [[buffer(2)]], device RESULT* result [[buffer(3)]], device uchar* passed [[buffer(4)]],
    constant uint& length [[buffer(5)]], constant uint& length_out [[buffer(6)]],
    uint thread_ [[thread_index_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]]) {
  constexpr uint threads = QUADS * SLOTS, bins = SLOTS * 8, width = bins + TAPS - 1, depth = C_IN < 8 ? C_IN : 8;
  threadgroup float tile[depth * width];
  threadgroup float4 weights[depth * TAPS * QUADS];
  threadgroup float* flat = (threadgroup float*)weights;
  const uint slot = thread_ / QUADS, quad = thread_ % QUADS, sample = group.z;
  const uint begin = group.x * bins, out_begin = group.y * QUADS * 4;
  float4 sums[8];
  UNROLL for (uint i = 0; i < 4; ++i) {
    const uint channel = out_begin + quad * 4 + i;
    const float shift = channel < C_OUT ? bias[channel] : 0.0f;
    UNROLL for (uint bin = 0; bin < 8; ++bin) sums[bin][i] = shift;
  }
  for (uint first = 0; first < C_IN; first += depth) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < depth * width; i += threads) {
      const int bin = int(begin + i % width) - PADDING;
      const uint channel = first + i / width;
      const bool inside = channel < C_IN && bin >= 0 && bin < int(length);
      tile[i] = inside ? float(values[(sample * C_IN + channel) * length + uint(bin)]) : 0.0f;
    }
    for (uint i = thread_; i < depth * TAPS * QUADS * 4; i += threads) {  // i as weight lies: [channel out][depth][TAPS]
      const uint out = i / (depth * TAPS), rest = i % (depth * TAPS);
      const bool inside = out_begin + out < C_OUT && first * TAPS + rest < C_IN * TAPS;
      flat[rest * QUADS * 4 + out] = inside ? weight[((out_begin + out) * C_IN + first) * TAPS + rest] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    NAME(multiply)(tile, width, weights, QUADS, depth, slot, quad, sums);
  }
  UNROLL for (uint i = 0; i < 4; ++i) {
    const uint channel = out_begin + quad * 4 + i, row = (sample * C_OUT + channel) * length_out;
    UNROLL for (uint bin = 0; bin < 8; bin += AFTER == PAIRS ? 2 : 1) {
      const uint to = (begin + slot * 8 + bin) / (AFTER == PAIRS ? 2 : 1);
      if (channel >= C_OUT || to >= length_out) continue;
      float value = sums[bin][i];
      uchar origin = 1;
      if (AFTER == PAIRS) {
        const float second = sums[AFTER == PAIRS ? bin + 1 : bin][i];
        if (second > value || not_a_number(second)) { value = second; origin = 2; }  // PyTorch's rule, NaN included
      }
      if (AFTER != NOTHING) {
        passed[row + to] = passes(value) ? origin : uchar(0);
        value = passes(value) ? value : 0.0f;
      }
      result[row + to] = RESULT(value);
    }
  }
}

// gradient, passed, place (see gradient_before), weight [C_OUT, C_IN, TAPS] -> wanted [B, C_IN, L], that of the values
// threads: [tiles of bins x BACK_QUADS x BACK_SLOTS, blocks of channels, B]
[[max_total_threads_per_threadgroup(BACK_QUADS * BACK_SLOTS)]]
kernel void NAME(convolve_back)(
    device const GRADIENT* gradient [[buffer(0)]], device const uchar* passed [[buffer(1)]],
    device const int* place [[buffer(2)]], device const float* weight [[buffer(3)]], device VALUE* wanted [[buffer(4)]],
    constant uint& length [[buffer(5)]], constant uint& length_out [[buffer(6)]], constant uint& stride [[buffer(7)]],
    uint thread_ [[thread_index_in_threadgroup]], uint3 group [[threadgroup_position_in_grid]]) {
  constexpr uint threads = BACK_QUADS * BACK_SLOTS, bins = BACK_SLOTS * 8, width = bins + TAPS - 1;
  constexpr uint depth = C_OUT < 8 ? C_OUT : 8;
  threadgroup float tile[depth * width];
  threadgroup float4 weights[depth * TAPS * BACK_QUADS];
  threadgroup float* flat = (threadgroup float*)weights;
  const uint slot = thread_ / BACK_QUADS, quad = thread_ % BACK_QUADS, sample = group.z;
  const uint begin = group.x * bins, in_begin = group.y * BACK_QUADS * 4;
  float4 sums[8];
  UNROLL for (uint bin = 0; bin < 8; ++bin) sums[bin] = float4(0.0f);
  for (uint first = 0; first < C_OUT; first += depth) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < depth * width; i += threads) {
      const int bin = int(begin + i % width) + PADDING - (TAPS - 1);
      const uint channel = first + i / width;
      tile[i] = channel < C_OUT ? gradient_before<GRADIENT, AFTER>(gradient, passed, place, stride, sample, channel, C_OUT,
                                                                   bin, length_out)
                                : 0.0f;
    }
    for (uint i = thread_; i < depth * TAPS * BACK_QUADS * 4; i += threads) {  // i: [depth][channel in][TAPS]
      const uint out = i / (BACK_QUADS * 4 * TAPS), to = i / TAPS % (BACK_QUADS * 4), tap = i % TAPS;
      const bool inside = first + out < C_OUT && in_begin + to < C_IN;
      const float found = inside ? weight[((first + out) * C_IN + in_begin + to) * TAPS + tap] : 0.0f;
      flat[(out * TAPS + TAPS - 1 - tap) * BACK_QUADS * 4 + to] = found;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    NAME(multiply)(tile, width, weights, BACK_QUADS, depth, slot, quad, sums);
  }
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint bin = 0; bin < 8; ++bin) {
      const uint channel = in_begin + quad * 4 + i, to = begin + slot * 8 + bin;
      if (channel < C_IN && to < length) wanted[(sample * C_IN + channel) * length + to] = VALUE(sums[bin][i]);
    }
}
