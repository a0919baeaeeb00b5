// A convolution's share of the launch that computes all gradients of weights and biases.
//
// Defined before: VALUE and GRADIENT (types in memory), C_IN, C_OUT, TAPS, PADDING, AFTER; MATRICES: 1 where SIMD-groups
// multiply by 8 x 8 matrices.
//
// Each part sums every PROGRAMS-th piece of the batch, in a fixed order; parts [PROGRAMS, NUMBERS], where the numbers are
// weight [C_OUT, C_IN, TAPS], then bias [C_OUT]. They are added up by `collect` (optimizer.metal).
// sizes: samples, length, length_out, stride, where the parts begin, PROGRAMS. 256 threads a group.
#if C_IN > 1
// A group has up to 32 channels in and 32 out, and takes 64 bins at a time. Without matrices a thread sums 4 channels out of
// one in; with them a SIMD-group sums 8 out of 8 in, for two such pairs at most.
inline void NAME(weigh)(
    device const VALUE* values, device const GRADIENT* gradient, device const uchar* passed, device const int* place,
    device float* parts, constant long* sizes, uint group, threadgroup float4* scratch, uint thread_, uint lane, uint simd) {
  constexpr uint step = MATRICES ? 8 : 4;
  constexpr uint ins = C_IN >= 32 ? 32 : MATRICES ? (C_IN + 7) / 8 * 8 : C_IN;
  constexpr uint outs = C_OUT >= 32 ? 32 : (C_OUT + step - 1) / step * step;
  constexpr uint around_ = (TAPS + 2) / 4 * 4, row = (64 + around_) % 8 ? 64 + around_ : 68 + around_;  // odd x 4: banks
  constexpr uint numbers = C_OUT * C_IN * TAPS + C_OUT;
  constexpr uint in_blocks = (C_IN + ins - 1) / ins, out_blocks = (C_OUT + outs - 1) / outs;
  const uint samples = uint(sizes[0]), length = uint(sizes[1]), length_out = uint(sizes[2]), stride = uint(sizes[3]);
  const uint programs = uint(sizes[5]);
  const uint part = group / (in_blocks * out_blocks), block = group % (in_blocks * out_blocks);
  const uint in_begin = block % in_blocks * ins, out_begin = block / in_blocks * outs;
  threadgroup float4* near = scratch;
  threadgroup float4* found = scratch + ins * row / 4;
  threadgroup float* near_flat = (threadgroup float*)near;
  threadgroup float* found_flat = (threadgroup float*)found;
  const uint bins = AFTER == PAIRS ? 2 * length_out : length_out;
  const uint tiles = (bins + 63) / 64;
#if MATRICES
  constexpr uint rows = outs / 8, pairs = ins / 8 * rows, most = (pairs + 7) / 8;
  const uint first_pair = simd * most;
  simdgroup_float8x8 sums[most][TAPS];
  UNROLL for (uint i = 0; i < most; ++i)
    UNROLL for (uint tap = 0; tap < TAPS; ++tap) sums[i][tap] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
#else
  constexpr uint quads = outs / 4;
  const uint channel = thread_ % ins, quad = thread_ / ins;
  float sums[4][TAPS];
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint tap = 0; tap < TAPS; ++tap) sums[i][tap] = 0.0f;
#endif
  float total = 0.0f;
  for (uint tile = part; tile < samples * tiles; tile += programs) {
    const uint sample = tile / tiles, begin = tile % tiles * 64;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = thread_; i < ins * (64 + around_); i += 256) {
      const uint line = i / (64 + around_), at = i % (64 + around_), from = in_begin + line;
      const int bin = int(begin + at) - PADDING;
      const bool inside = from < C_IN && bin >= 0 && bin < int(length);
      near_flat[line * row + at] = inside ? float(values[(sample * C_IN + from) * length + uint(bin)]) : 0.0f;
    }
    for (uint i = thread_; i < outs * 64; i += 256) {
      const uint line = i / 64, at = i % 64, to = out_begin + line;
      found_flat[line * 68 + at] =
          to < C_OUT ? gradient_before<GRADIENT, AFTER>(gradient, passed, place, stride, sample, to, C_OUT, int(begin + at), length_out)
                     : 0.0f;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#if MATRICES
    for (uint bin = 0; bin < 64; bin += 8) {
      simdgroup_float8x8 left[most], right;
      UNROLL for (uint i = 0; i < most; ++i)
        if (first_pair + i < pairs) simdgroup_load(left[i], found_flat + (first_pair + i) % rows * 8 * 68 + bin, 68);
      UNROLL for (uint tap = 0; tap < TAPS; ++tap)
        UNROLL for (uint i = 0; i < most; ++i) {
          const uint pair = first_pair + i;
          if (pair >= pairs) continue;
          if (i == 0 || rows % 2)  // otherwise both have the same 8 channels in
            simdgroup_load(right, near_flat + pair / rows * 8 * row + bin + tap, row, ulong2(0), true);
          simdgroup_multiply_accumulate(sums[i][tap], left[i], right, sums[i][tap]);
        }
    }
#else
    if (quad < quads)
      for (uint bin = 0; bin < 64; bin += 4) {
        float around[4 + around_];
        UNROLL for (uint i = 0; i < (4 + around_) / 4; ++i) {
          const float4 four = near[(channel * row + bin) / 4 + i];
          UNROLL for (uint j = 0; j < 4; ++j) around[4 * i + j] = four[j];
        }
        UNROLL for (uint i = 0; i < 4; ++i) {
          const float4 four = found[((quad * 4 + i) * 68 + bin) / 4];
          UNROLL for (uint j = 0; j < 4; ++j)
            UNROLL for (uint tap = 0; tap < TAPS; ++tap) sums[i][tap] = fma(four[j], around[j + tap], sums[i][tap]);
        }
      }
#endif
    if (in_begin == 0 && thread_ < outs)
      for (uint bin = 0; bin < 64; ++bin) total += found_flat[thread_ * 68 + bin];
  }
  device float* mine = parts + uint(sizes[4]) + part * numbers;
#if MATRICES
  threadgroup float* mine_here = near_flat + simd * 64;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  UNROLL for (uint i = 0; i < most; ++i) {
    const uint pair = first_pair + i;
    if (pair < pairs)
      UNROLL for (uint tap = 0; tap < TAPS; ++tap) {
        simdgroup_store(sums[i][tap], mine_here, 8);
        simdgroup_barrier(mem_flags::mem_threadgroup);
        for (uint at = lane; at < 64; at += 32) {
          const uint out = out_begin + pair % rows * 8 + at / 8, from = in_begin + pair / rows * 8 + at % 8;
          if (out < C_OUT && from < C_IN) mine[(out * C_IN + from) * TAPS + tap] = mine_here[at];
        }
        simdgroup_barrier(mem_flags::mem_threadgroup);
      }
  }
#else
  if (quad < quads && in_begin + channel < C_IN)
    UNROLL for (uint i = 0; i < 4; ++i) {
      const uint out = out_begin + quad * 4 + i;
      if (out < C_OUT)
        UNROLL for (uint tap = 0; tap < TAPS; ++tap) mine[(out * C_IN + in_begin + channel) * TAPS + tap] = sums[i][tap];
    }
#endif
  if (in_begin == 0 && thread_ < outs && out_begin + thread_ < C_OUT) mine[C_OUT * C_IN * TAPS + out_begin + thread_] = total;
}
#else
// A part takes whole samples; a SIMD-group has 4 channels, and its lanes share the bins.
inline void NAME(weigh)(
    device const VALUE* values, device const GRADIENT* gradient, device const uchar* passed, device const int* place,
    device float* parts, constant long* sizes, uint group, threadgroup float4* scratch, uint thread_, uint lane, uint simd) {
  constexpr uint numbers = C_OUT * TAPS + C_OUT, blocks = (C_OUT + 31) / 32;
  const uint samples = uint(sizes[0]), length = uint(sizes[1]), length_out = uint(sizes[2]), stride = uint(sizes[3]);
  const uint programs = uint(sizes[5]);
  const uint part = group / blocks, begin = (group % blocks * 8 + simd) * 4;
  const uint bins = AFTER == PAIRS ? 2 * length_out : length_out;
  float sums[4][TAPS + 1];
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint tap = 0; tap <= TAPS; ++tap) sums[i][tap] = 0.0f;
  if (begin < C_OUT)
    for (uint sample = part; sample < samples; sample += programs)
      for (uint bin = lane; bin < bins; bin += 32) {
        float around[TAPS];
        UNROLL for (uint tap = 0; tap < TAPS; ++tap) {
          const int at = int(bin + tap) - PADDING;
          around[tap] = at >= 0 && at < int(length) ? float(values[sample * length + uint(at)]) : 0.0f;
        }
        UNROLL for (uint i = 0; i < 4; ++i) {
          const float found = begin + i < C_OUT ? gradient_before<GRADIENT, AFTER>(gradient, passed, place, stride, sample,
                                                                                   begin + i, C_OUT, int(bin), length_out)
                                                : 0.0f;
          UNROLL for (uint tap = 0; tap < TAPS; ++tap) sums[i][tap] = fma(found, around[tap], sums[i][tap]);
          sums[i][TAPS] += found;
        }
      }
  device float* mine = parts + uint(sizes[4]) + part * numbers;
  UNROLL for (uint i = 0; i < 4; ++i)
    UNROLL for (uint tap = 0; tap <= TAPS; ++tap) {
      const float sum = simd_sum(sums[i][tap]);
      const uint out = begin + i;
      if (lane == 0 && out < C_OUT) mine[tap < TAPS ? out * TAPS + tap : C_OUT * TAPS + out] = sum;
    }
}
#endif
