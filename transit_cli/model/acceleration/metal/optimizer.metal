// The gradients' parts added up, and clipping with Adam or AdamW, over flat buffers of all parameters.

// parts -> gradient [count], in a fixed order, and squares [groups], sums of squares for the norm.
// rows [ROWS][6]: where a parameter begins in gradient, its numbers, where their parts begin, numbers of a part, parts,
// whether to add to what gradient holds. Numbers of no row are left as they are. threads: groups x 256
[[max_total_threads_per_threadgroup(256)]]
kernel void NAME(collect)(
    device const float* parts [[buffer(0)]], device float* gradient [[buffer(1)]], device float* squares [[buffer(2)]],
    constant long* rows [[buffer(3)]], constant uint& row_count [[buffer(4)]], constant uint& count [[buffer(5)]],
    uint number [[thread_position_in_grid]], uint thread_ [[thread_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float held[8];
  float sum = 0.0f;
  if (number < count) {
    bool found = false;
    for (uint row = 0; row < row_count && !found; ++row) {
      constant long* with = rows + row * 6;
      const uint begin = uint(with[0]);
      if (number < begin || number - begin >= uint(with[1])) continue;
      found = true;
      device const float* at = parts + uint(with[2]) + (number - begin);
      for (uint part = 0; part < uint(with[4]); ++part) sum += at[part * uint(with[3])];
      if (with[5]) sum += gradient[number];
      gradient[number] = sum;
    }
    if (!found) sum = gradient[number];
  }
  sum = sum_of_group(sum * sum, held, lane, simd, 8);
  if (thread_ == 0) squares[group] = sum;
}

// One step of all parameters, of which steps [parameters] keeps count. threads: at least count, in groups of 256
// settings: rate, 1 - beta1, beta2, 1 - beta2, epsilon, decay, 1 - beta1^t, sqrt(1 - beta2^t), largest norm (0: no clipping),
// whether the decay is AdamW's. Differences from 1 come from the host, which has the digits.
[[max_total_threads_per_threadgroup(256)]]
kernel void NAME(adam)(
    device float* parameters [[buffer(0)]], device const float* gradient [[buffer(1)]], device float* mean [[buffer(2)]],
    device float* square [[buffer(3)]], device const float* squares [[buffer(4)]], device float* steps [[buffer(5)]],
    constant float* settings [[buffer(6)]], constant uint& count [[buffer(7)]], constant uint& groups [[buffer(8)]],
    constant uint& step_count [[buffer(9)]],
    uint i [[thread_position_in_grid]], uint thread_ [[thread_index_in_threadgroup]],
    uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float held[8];
  float scale = 1.0f;
  if (settings[8] > 0.0f) {
    float sum = 0.0f;
    for (uint group = thread_; group < groups; group += 256) sum += squares[group];
    const float norm = precise::sqrt(sum_of_group(sum, held, lane, simd, 8));
    scale = settings[8] / (norm + 1e-6f);
    if (scale > 1.0f) scale = 1.0f;  // NaN stays, as in PyTorch
  }
  if (i < step_count) steps[i] += 1.0f;
  if (i >= count) return;
  const float rate = settings[0], decay = settings[5];
  float value = parameters[i], found = gradient[i] * scale;
  if (settings[9] > 0.0f) value -= rate * decay * value;
  else found = fma(decay, value, found);
  const float m = fma(found - mean[i], settings[1], mean[i]);
  const float v = fma(found * found, settings[3], square[i] * settings[2]);
  mean[i] = m;
  square[i] = v;
  parameters[i] = value - rate / settings[6] * (m / (precise::sqrt(v) / settings[7] + settings[4]));
}
