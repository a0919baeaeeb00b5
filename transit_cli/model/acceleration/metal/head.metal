// The end of a network: LayerNorm, a hidden layer with ReLU and dropout, one logit; and binary cross-entropy.
//
// Defined before: JOINED (features of a sample), HIDDEN, DROPOUT (1 or 0: whether there is a mask), EPSILON (of LayerNorm).
// A threadgroup of 128 has a sample.

// features [B, JOINED], mask [B, HIDDEN] of 0 and 1, times `scale` -> normed [B, JOINED], inverse [B] (of the deviation),
// units [B, HIDDEN], logits [B]. threads: [128 x B]
[[max_total_threads_per_threadgroup(128)]]
kernel void NAME(head)(
    device const float* features [[buffer(0)]], device const float* gain [[buffer(1)]], device const float* shift [[buffer(2)]],
    device const float* weight [[buffer(3)]], device const float* bias [[buffer(4)]], device const float* last [[buffer(5)]],
    device const float* last_bias [[buffer(6)]], device const float* mask [[buffer(7)]], device float* normed [[buffer(8)]],
    device float* inverse [[buffer(9)]], device float* units [[buffer(10)]], device float* logits [[buffer(11)]],
    constant float& scale [[buffer(12)]], uint thread_ [[thread_index_in_threadgroup]],
    uint sample [[threadgroup_position_in_grid]], uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float given[JOINED];
  threadgroup float held[4];
  float sum = 0.0f;
  for (uint i = thread_; i < JOINED; i += 128) sum += features[sample * JOINED + i];
  const float mean = sum_of_group(sum, held, lane, simd, 4) / JOINED;
  sum = 0.0f;
  for (uint i = thread_; i < JOINED; i += 128) {
    const float far = features[sample * JOINED + i] - mean;
    sum = fma(far, far, sum);
  }
  const float by = 1.0f / precise::sqrt(sum_of_group(sum, held, lane, simd, 4) / JOINED + EPSILON);
  if (thread_ == 0) inverse[sample] = by;
  for (uint i = thread_; i < JOINED; i += 128) {
    const float value = (features[sample * JOINED + i] - mean) * by;
    normed[sample * JOINED + i] = value;
    given[i] = fma(value, gain[i], shift[i]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float logit = 0.0f;
  for (uint unit = simd; unit < HIDDEN; unit += 4) {  // a SIMD-group has a unit: its lanes read neighbouring weights
    sum = 0.0f;
    for (uint i = lane; i < JOINED; i += 32) sum = fma(weight[unit * JOINED + i], given[i], sum);
    sum = simd_sum(sum) + bias[unit];
    sum = passes(sum) ? sum : 0.0f;
    const uint at = sample * HIDDEN + unit;
    if (DROPOUT) sum *= mask[at] * scale;
    if (lane == 0) {
      units[at] = sum;
      logit = fma(sum, last[unit], logit);
    }
  }
  logit = sum_of_group(logit, held, lane, simd, 4);
  if (thread_ == 0) logits[sample] = logit + last_bias[0];
}

// to_logits [B] -> to_units [B, HIDDEN] (in front of ReLU), to_given [B, JOINED] (behind LayerNorm), wanted [B, JOINED], the
// gradient of the features. threads: [128 x B]
[[max_total_threads_per_threadgroup(128)]]
kernel void NAME(head_back)(
    device const float* to_logits [[buffer(0)]], device const float* gain [[buffer(1)]], device const float* weight [[buffer(2)]],
    device const float* last [[buffer(3)]], device const float* mask [[buffer(4)]], device const float* normed [[buffer(5)]],
    device const float* inverse [[buffer(6)]], device const float* units [[buffer(7)]], device float* to_units [[buffer(8)]],
    device float* to_given [[buffer(9)]], device float* wanted [[buffer(10)]], constant float& scale [[buffer(11)]],
    uint thread_ [[thread_index_in_threadgroup]], uint sample [[threadgroup_position_in_grid]],
    uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float behind[HIDDEN];
  threadgroup float held[4];
  for (uint unit = thread_; unit < HIDDEN; unit += 128) {
    const uint at = sample * HIDDEN + unit;
    float found = passes(units[at]) ? to_logits[sample] * last[unit] : 0.0f;
    if (DROPOUT) found = mask[at] > 0.0f ? found * (mask[at] * scale) : 0.0f;
    to_units[at] = behind[unit] = found;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float first = 0.0f, second = 0.0f;
  for (uint i = thread_; i < JOINED; i += 128) {
    float found = 0.0f;
    for (uint unit = 0; unit < HIDDEN; ++unit) found = fma(weight[unit * JOINED + i], behind[unit], found);
    to_given[sample * JOINED + i] = found;
    found *= gain[i];
    first += found;
    second = fma(found, normed[sample * JOINED + i], second);
  }
  first = sum_of_group(first, held, lane, simd, 4) / JOINED;
  second = sum_of_group(second, held, lane, simd, 4) / JOINED;
  for (uint i = thread_; i < JOINED; i += 128) {
    const uint at = sample * JOINED + i;
    wanted[at] = inverse[sample] * (to_given[at] * gain[i] - first - normed[at] * second);
  }
}

// The head's share of the launch that computes all gradients of weights: a thread has a number, parts take every
// PROGRAMS-th sample. The numbers: gain, shift [JOINED], weight [HIDDEN, JOINED], bias [HIDDEN], last [HIDDEN], its bias.
// sizes: samples, -, -, -, where the parts begin, PROGRAMS. 256 threads a group.
inline void NAME(head_weigh)(
    device const float* to_logits, device const float* to_units, device const float* to_given, device const float* normed,
    device const float* units, device const float* gain, device const float* shift, device float* parts,
    constant long* sizes, uint group, uint thread_) {
  constexpr uint numbers = 2 * JOINED + HIDDEN * JOINED + 2 * HIDDEN + 1, blocks = (numbers + 255) / 256;
  const uint samples = uint(sizes[0]), programs = uint(sizes[5]), part = group / blocks;
  const uint number = group % blocks * 256 + thread_;
  if (number >= numbers) return;
  float sum = 0.0f;
  for (uint sample = part; sample < samples; sample += programs) {
    uint i = number;
    if (i < JOINED) { sum = fma(to_given[sample * JOINED + i], normed[sample * JOINED + i], sum); continue; }
    i -= JOINED;
    if (i < JOINED) { sum += to_given[sample * JOINED + i]; continue; }
    i -= JOINED;
    if (i < HIDDEN * JOINED) {
      const uint to = i % JOINED;
      const float given = fma(normed[sample * JOINED + to], gain[to], shift[to]);
      sum = fma(to_units[sample * HIDDEN + i / JOINED], given, sum);
      continue;
    }
    i -= HIDDEN * JOINED;
    if (i < HIDDEN) { sum += to_units[sample * HIDDEN + i]; continue; }
    i -= HIDDEN;
    if (i < HIDDEN) { sum = fma(to_logits[sample], units[sample * HIDDEN + i], sum); continue; }
    sum += to_logits[sample];
  }
  parts[uint(sizes[4]) + part * numbers + number] = sum;
}
