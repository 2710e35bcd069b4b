// The input projection inside the resident scan: z_t = W_ih x_t + b, never stored, never rounded.
//
//   work     as the scan's product (resident_forward.cuh): the same units and chains, C for the inner size
//   memory   x arrives in z's place. W_ih is a second A operand: in registers beside W_hh where both
//            fit, else in shared memory. Its product does not wait for h: it stands between those that do
//   needs    C <= kD, rows of x and W_ih that begin at multiples of 16 bytes
//   cost     gates * kD * kD * kN more multiply-adds a block and step; z neither written nor read, x read
//            once a direction. From shared memory W_ih is read once a step, so a larger kN is better
#pragma once

#include "resident_forward.cuh"
#include "spatial_call.h"

namespace crnn {

template <typename R>
struct ProjectedInput {
  using Call = SpatialCall;
  using S = typename R::S;
  static constexpr bool kProjects = true;
  static constexpr int kParts = 1, kHeld = 2 * R::kTiles <= 32 ? R::kTiles : 0;
  // With many sums a thread, registers are short: both products have one, and two tiles of W_hh lie in
  // shared memory.
  static constexpr bool kJoined = R::kG * R::kI * R::kJ >= 8;
  static constexpr int kRecurrentHeld = kJoined ? R::kHeld - 2 : R::kHeld;
  using MyWeights = Weights<R, Pass::kForward, kHeld, false>;
  static constexpr uint32_t kSharedBytes = MyWeights::kSharedBytes;

  const int width;
  const MyWeights weights;
  float bias[R::kG][R::kI][2];

  CRNN_DEVICE ProjectedInput(const Call& call, int k, uint32_t address)
      : width(int(call.C)),
        weights(static_cast<const S*>(call.w_ih) + k * call.w_ih_k, int(call.D), width, address) {
    const S* all = static_cast<const S*>(call.bias) + k * call.bias_k;
    const Places<R> at;
#pragma unroll
    for (int g = 0; g < R::kG; ++g)
#pragma unroll
      for (int i = 0; i < R::kI; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int u = at.unit(i, half * 2);
          bias[g][i][half] = call.bias && u < call.D ? widen<float>(all[g * call.D + u]) : 0.0f;
        }
  }

  CRNN_DEVICE void begin(float (&z)[R::kG][R::kI][R::kJ][4], uint32_t, uint32_t) const {
#pragma unroll
    for (int g = 0; g < R::kG; ++g)
#pragma unroll
      for (int i = 0; i < R::kI; ++i)
#pragma unroll
        for (int j = 0; j < R::kJ; ++j)
#pragma unroll
          for (int e = 0; e < 4; ++e) z[g][i][j][e] = bias[g][i][e / 2];
  }

  // Inner steps k and k + 1 of z += W_ih x.
  CRNN_DEVICE void add(float (&z)[R::kG][R::kI][R::kJ][4], uint32_t tile, uint32_t pitch, int k) const {
    uint32_t b[R::kJ][4];
#pragma unroll
    for (int j = 0; j < R::kJ; ++j) load_operands<R>(b[j], tile, pitch, j, k);
#pragma unroll
    for (int g = 0; g < R::kG; ++g)
#pragma unroll
      for (int i = 0; i < R::kI; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          uint32_t a[4];
          weights.get(g, i, k + half, a);
#pragma unroll
          for (int j = 0; j < R::kJ; ++j) multiply_as<R>(z[g][i][j], a, b[j][half * 2], b[j][half * 2 + 1]);
        }
  }
};

}  // namespace crnn
