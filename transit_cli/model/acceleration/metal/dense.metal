// Dense layers with or without ReLU, forward and back to the values.
//
// Defined before: VALUE (type of the values in memory), INPUTS, UNITS, AFTER (NOTHING or RELU).
//
// A threadgroup of 64 has a tile of 32 x 32 results, a thread 4 x 4 of them; 32 products are summed at a time.

// 4 x 4 sums += 32 products. left, right [32][33]: what is summed over, then rows or columns of the tile.
inline void NAME(multiply)(threadgroup const float* left, threadgroup const float* right, uint row, uint column,
                           thread float4* sums) {
  for (uint k = 0; k < 32; ++k)
    UNROLL for (uint i = 0; i < 4; ++i)
      UNROLL for (uint j = 0; j < 4; ++j)
        sums[i][j] = fma(left[k * 33 + row + 8 * i], right[k * 33 + column + 8 * j], sums[i][j]);
}

// values [B, INPUTS], weight [UNITS, INPUTS], bias [UNITS] -> result [B, UNITS]
// threads: [tiles of units x 64, tiles of samples]
[[max_total_threads_per_threadgroup(64)]]
kernel void NAME(dense)(
    device const VALUE* values [[buffer(0)]], device const float* weight [[buffer(1)]], device const float* bias [[buffer(2)]],
    device float* result [[buffer(3)]], constant uint& samples [[buffer(4)]],
    uint thread_ [[thread_index_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]]) {
  threadgroup float left[32 * 33], right[32 * 33];
  const uint row = thread_ / 8, column = thread_ % 8, sample_begin = group.y * 32, unit_begin = group.x * 32;
  float4 sums[4];
  UNROLL for (uint i = 0; i < 4; ++i) sums[i] = float4(0.0f);
  for (uint first = 0; first < INPUTS; first += 32) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < 32 * 32; i += 64) {
      const uint line = i / 32, k = i % 32, sample = sample_begin + line, unit = unit_begin + line;
      const bool inside = first + k < INPUTS;
      left[k * 33 + line] = inside && sample < samples ? float(values[sample * INPUTS + first + k]) : 0.0f;
      right[k * 33 + line] = inside && unit < UNITS ? weight[unit * INPUTS + first + k] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    NAME(multiply)(left, right, row, column, sums);
  }
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint j = 0; j < 4; ++j) {
      const uint sample = sample_begin + row + 8 * i, unit = unit_begin + column + 8 * j;
      if (sample >= samples || unit >= UNITS) continue;
      const float sum = sums[i][j] + bias[unit];
      result[sample * UNITS + unit] = AFTER == NOTHING || passes(sum) ? sum : 0.0f;
    }
}

// gradient, result [B, UNITS], weight [UNITS, INPUTS] -> wanted [B, INPUTS]
// threads: [tiles of inputs x 64, tiles of samples]
[[max_total_threads_per_threadgroup(64)]]
kernel void NAME(dense_back)(
    device const float* gradient [[buffer(0)]], device const float* result [[buffer(1)]],
    device const float* weight [[buffer(2)]], device VALUE* wanted [[buffer(3)]], constant uint& samples [[buffer(4)]],
    uint thread_ [[thread_index_in_threadgroup]], uint2 group [[threadgroup_position_in_grid]]) {
  threadgroup float left[32 * 33], right[32 * 33];
  const uint row = thread_ / 8, column = thread_ % 8, sample_begin = group.y * 32, input_begin = group.x * 32;
  float4 sums[4];
  UNROLL for (uint i = 0; i < 4; ++i) sums[i] = float4(0.0f);
  for (uint first = 0; first < UNITS; first += 32) {
    if (first) threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < 32 * 32; i += 64) {
      const uint line = i / 32, k = i % 32;
      const uint sample = sample_begin + line, at = sample * UNITS + first + k, input = input_begin + k;
      const bool inside = sample < samples && first + k < UNITS;
      left[k * 33 + line] = inside && (AFTER == NOTHING || passes(result[at])) ? gradient[at] : 0.0f;
      right[line * 33 + k] = first + line < UNITS && input < INPUTS ? weight[(first + line) * INPUTS + input] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    NAME(multiply)(left, right, row, column, sums);
  }
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint j = 0; j < 4; ++j) {
      const uint sample = sample_begin + row + 8 * i, input = input_begin + column + 8 * j;
      if (sample < samples && input < INPUTS) wanted[sample * INPUTS + input] = VALUE(sums[i][j]);
    }
}

// The layer's share of the launch that computes all gradients of weights: weight [UNITS, INPUTS], then bias [UNITS]. A group
// has 32 units of 32 inputs, and a thread 4 of these; parts take every PROGRAMS-th 32 samples.
// sizes: samples, -, -, -, where the parts begin, PROGRAMS. 256 threads a group.
inline void NAME(dense_weigh)(
    device const VALUE* values, device const float* gradient, device const float* result, device float* parts,
    constant long* sizes, uint group, threadgroup float4* scratch, uint thread_, uint lane, uint simd) {
  constexpr uint input_tiles = (INPUTS + 31) / 32, blocks = input_tiles * ((UNITS + 31) / 32);
  constexpr uint numbers = UNITS * INPUTS + UNITS;
  const uint samples = uint(sizes[0]), programs = uint(sizes[5]);
  const uint part = group / blocks, input_begin = group % blocks % input_tiles * 32, unit_begin = group % blocks / input_tiles * 32;
  threadgroup float* given = (threadgroup float*)scratch;
  threadgroup float* found = given + 32 * 32;
  float sums[4];
  UNROLL for (uint i = 0; i < 4; ++i) sums[i] = 0.0f;
  float total = 0.0f;
  for (uint first = part * 32; first < samples; first += programs * 32) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < 32 * 32; i += 256) {
      const uint sample = first + i / 32, input = input_begin + i % 32, unit = unit_begin + i % 32, at = sample * UNITS + unit;
      given[i] = sample < samples && input < INPUTS ? float(values[sample * INPUTS + input]) : 0.0f;
      const bool inside = sample < samples && unit < UNITS;
      found[i] = inside && (AFTER == NOTHING || passes(result[at])) ? gradient[at] : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint sample = 0; sample < 32; ++sample) {
      UNROLL for (uint i = 0; i < 4; ++i)
        sums[i] = fma(found[sample * 32 + simd + 8 * i], given[sample * 32 + lane], sums[i]);
      if (simd == 0) total += found[sample * 32 + lane];
    }
  }
  device float* mine = parts + uint(sizes[4]) + part * numbers;
  UNROLL for (uint i = 0; i < 4; ++i) {
    const uint unit = unit_begin + simd + 8 * i, input = input_begin + lane;
    if (unit < UNITS && input < INPUTS) mine[unit * INPUTS + input] = sums[i];
  }
  if (input_begin == 0 && simd == 0 && unit_begin + lane < UNITS) mine[UNITS * INPUTS + unit_begin + lane] = total;
}
