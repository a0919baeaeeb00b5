// Binary cross-entropy of logits, its mean and its gradient at once.

// logits, targets [B] -> loss [1], gradient [B], both times share. settings: share, label smoothing, weight of positives.
// One group of 256 threads.
[[max_total_threads_per_threadgroup(256)]]
kernel void NAME(cross_entropy)(
    device const float* logits [[buffer(0)]], device const float* targets [[buffer(1)]], device float* loss [[buffer(2)]],
    device float* gradient [[buffer(3)]], constant float* settings [[buffer(4)]], constant uint& samples [[buffer(5)]],
    uint thread_ [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]]) {
  threadgroup float held[8];
  const float share = settings[0] / float(samples), smoothing = settings[1], weight = settings[2];
  float sum = 0.0f;
  for (uint sample = thread_; sample < samples; sample += 256) {
    const float logit = logits[sample], target = targets[sample] * (1.0f - smoothing) + smoothing * 0.5f;
    const float size = logit < 0.0f ? -logit : logit;
    const float small = precise::exp(-size);  // never overflows
    const float above = (1.0f + small) - 1.0f;
    const float rest = above == 0.0f ? small : precise::log(1.0f + small) * (small / above);  // log(1 + small), all its digits
    const float positive = rest + (logit < 0.0f ? size : 0.0f), negative = rest + (logit < 0.0f ? 0.0f : size);
    sum += weight * target * positive + (1.0f - target) * negative;
    const float probability = (logit < 0.0f ? small : 1.0f) / (1.0f + small);
    gradient[sample] = share * ((1.0f - target) * probability - weight * target * (1.0f - probability));
  }
  sum = sum_of_group(sum, held, lane, simd, 8);
  if (thread_ == 0) loss[0] = sum * share;
}
