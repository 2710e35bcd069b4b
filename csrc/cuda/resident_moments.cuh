// Sums over the channels of each chain, for layer normalisation in the resident scans: within a thread, over
// the lanes that hold the same chain, then over the warps through shared memory. The order is fixed.
#pragma once

#include "resident.cuh"

namespace crnn {

// The sum of v over the eight lanes that hold the same chains.
CRNN_DEVICE float sum_of_lanes(float v) {
#pragma unroll
  for (int mask = 4; mask < 32; mask *= 2) v += device::shuffle_xor(v, mask);
  return v;
}

struct alignas(8) Pair {
  float first, second;
};

// Hands each warp's pair for each of its chains to all warps: combine(warp, j, column, pair) in order of the
// warps, on every thread. `address` has room for kWarps * kN pairs. Two calls need a barrier between them.
template <typename R, typename Combine>
CRNN_DEVICE void exchange(const Pair (&mine)[R::kJ][2], uint32_t address, Combine&& combine) {
  const Places<R> at;
  if (at.lane < 4)
#pragma unroll
    for (int j = 0; j < R::kJ; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        device::store_shared(address + (device::warp() * R::kN + at.chain(j, c)) * 8, mine[j][c]);
  device::block_barrier();
#pragma unroll
  for (int w = 0; w < R::kWarps; ++w)
#pragma unroll
    for (int j = 0; j < R::kJ; ++j)
#pragma unroll
      for (int c = 0; c < 2; ++c)
        combine(w, j, c, device::load_shared<Pair>(address + (w * R::kN + at.chain(j, c)) * 8));
}

// mean and scale = 1 / sqrt(variance + eps) over the D channels of each of the thread's chains (column e % 2
// of tile j). Warps' means and squares are combined by Chan's formula: no difference of large sums.
template <typename R>
CRNN_DEVICE void moments(const float (&a)[R::kI][R::kJ][4], int D, uint32_t address, float (&mean)[R::kJ][2],
    float (&scale)[R::kJ][2]) {
  const Places<R> at;
  constexpr int kUnits = 16 * R::kI;
  const auto units_of = [&](int warp) {  // real ones, without padding
    const int left = D - warp * kUnits;
    return left < 0 ? 0 : left < kUnits ? left : kUnits;
  };
  const float own = float(units_of(device::warp()));
  Pair mine[R::kJ][2];
#pragma unroll
  for (int j = 0; j < R::kJ; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float sum = 0, squares = 0;
#pragma unroll
      for (int i = 0; i < R::kI; ++i) sum += a[i][j][c] + a[i][j][c + 2];  // padding is 0
      const float middle = own > 0 ? sum_of_lanes(sum) / own : 0;
#pragma unroll
      for (int i = 0; i < R::kI; ++i)
#pragma unroll
        for (int e = c; e < 4; e += 2) {
          const float from_middle = at.unit(i, e) < D ? a[i][j][e] - middle : 0;
          squares += from_middle * from_middle;
        }
      mine[j][c] = {middle, sum_of_lanes(squares)};
      mean[j][c] = 0, scale[j][c] = 0;
    }
  exchange<R>(mine, address, [&](int w, int j, int c, Pair other) {
    const float count = float(units_of(w)), seen = float(w * kUnits);  // all before the last are full
    if (count == 0) return;
    const float apart = other.first - mean[j][c], share = count / (seen + count);
    scale[j][c] += other.second + apart * apart * seen * share;  // sum of squares so far
    mean[j][c] += apart * share;
  });
#pragma unroll
  for (int j = 0; j < R::kJ; ++j)
#pragma unroll
    for (int c = 0; c < 2; ++c) scale[j][c] = 1.0f / sqrtf(scale[j][c] / float(D) + float(kLnEps));
}

}  // namespace crnn
