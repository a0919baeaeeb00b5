// Each channel's average and maximum, and max-pooling followed by ReLU.
//
// Defined before: VALUE (type in memory), SIZE and STRIDE of the max-pooling, KEEP (1 or 0: whether the origin is stored).

// values [B, C, L] -> result [B, 2 C]: averages, then maxima; place [B, C]: the maximum's bin, the first of several.
// A SIMD-group has a channel. threads: 32 x B x C in groups of 256.
kernel void NAME(average_and_maximum)(
    device const VALUE* values [[buffer(0)]], device float* result [[buffer(1)]], device int* place [[buffer(2)]],
    constant uint& length [[buffer(3)]], constant uint& channels [[buffer(4)]], constant uint& rows [[buffer(5)]],
    uint lane [[thread_index_in_simdgroup]], uint simd [[simdgroup_index_in_threadgroup]],
    uint group [[threadgroup_position_in_grid]]) {
  const uint row = group * 8 + simd;
  if (row >= rows) return;
  float total = 0.0f, most = -INFINITY;
  int where = -1;
  for (uint bin = lane; bin < length; bin += 32) {
    const float value = float(values[row * length + bin]);
    total += value;
    // The first NaN wins over everything: it is what PyTorch's maximum returns.
    if (where < 0 || (!not_a_number(most) && (value > most || not_a_number(value)))) { most = value; where = int(bin); }
  }
  for (ushort step = 16; step > 0; step /= 2) {
    total += simd_shuffle_xor(total, step);
    const float other = simd_shuffle_xor(most, step);
    const int other_where = simd_shuffle_xor(where, step);
    const bool first = other_where >= 0 && (where < 0 || other_where < where);
    const bool both = not_a_number(other) && not_a_number(most);
    const bool take = both ? first : not_a_number(most) ? false : not_a_number(other) || where < 0 || other > most || (other == most && first);
    if (take && other_where >= 0) { most = other; where = other_where; }
  }
  if (lane == 0) {
    const uint sample = row / channels, channel = row % channels;
    result[sample * 2 * channels + channel] = total / float(length);
    result[sample * 2 * channels + channels + channel] = most;
    place[row] = where;
  }
}

// Max-pooling over SIZE bins, STRIDE apart, then ReLU: values [rows, L] -> result [rows, L_OUT], and which of the SIZE bins
// it was, or 255 where ReLU stopped it. threads: numel of the result.
kernel void NAME(pool)(
    device const VALUE* values [[buffer(0)]], device VALUE* result [[buffer(1)]], device uchar* origin [[buffer(2)]],
    constant uint& length [[buffer(3)]], constant uint& length_out [[buffer(4)]],
    uint number [[thread_position_in_grid]]) {
  const uint row = number / length_out, at = row * length + number % length_out * STRIDE;
  float most = float(values[at]);
  uint which = 0;
  UNROLL for (uint bin = 1; bin < SIZE; ++bin) {
    const float value = float(values[at + bin]);
    if (value > most || not_a_number(value)) { most = value; which = bin; }
  }
  result[number] = VALUE(passes(most) ? most : 0.0f);
  if (KEEP) origin[number] = passes(most) ? uchar(which) : uchar(255);
}

// gradient, origin [rows, L_OUT] -> wanted [rows, L]; each bin gathers its own. threads: numel of wanted.
kernel void NAME(pool_back)(
    device const VALUE* gradient [[buffer(0)]], device const uchar* origin [[buffer(1)]], device VALUE* wanted [[buffer(2)]],
    constant uint& length [[buffer(3)]], constant uint& length_out [[buffer(4)]],
    uint number [[thread_position_in_grid]]) {
  const uint row = number / length, bin = number % length;
  float total = 0.0f;
  UNROLL for (uint back = 0; back < (SIZE + STRIDE - 1) / STRIDE; ++back) {
    if (bin / STRIDE < back) continue;
    const uint from = bin / STRIDE - back, offset = bin - from * STRIDE;
    if (from >= length_out || offset >= SIZE) continue;
    const uint at = row * length_out + from;
    if (origin[at] == uchar(offset)) total += float(gradient[at]);
  }
  wanted[number] = VALUE(total);
}
