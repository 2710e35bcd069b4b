// What the boundary (scan_cuda.cpp) hands to a scan kernel: plain numbers and pointers. No torch in it.
#pragma once

#include <cstdint>

#include "../core/cells.h"
#include "runtime.h"

namespace crnn {

enum class Dtype { kDouble, kFloat, kBFloat16, kHalf };

constexpr int64_t bytes_of(Dtype dtype) {
  return dtype == Dtype::kDouble ? 8 : dtype == Dtype::kFloat ? 4 : 2;
}
// Bytes of the type that computes.
constexpr int64_t compute_bytes(Dtype dtype) {
  return dtype == Dtype::kDouble ? 8 : 4;
}

// What a kMasked cell saves: a bit a channel, h > 0; channel c is bit c % 8 of byte c / 8. Bytes of a row.
CRNN_HD constexpr int64_t mask_bytes(int64_t D) {
  return (D + 127) / 128 * 16;
}

// A [P, N, K, channels] tensor: element strides; channels are dense.
struct Rows {
  void* data;
  int64_t p, n, k;
};

// Directions that one launch takes, by value: nothing has to be copied to the device.
constexpr int kLaunchDirections = 16;

// Passed to kernels by value. Tensors without strides are contiguous; a missing optional one is null.
struct ScanCall {
  int64_t P, N, K, D;
  Dtype dtype;
  const void *whh, *cell_params, *initial, *cont;
  void* scratch;    // of the variant's `scratch_bytes`
  int64_t first_k;  // the direction of plan[0]
  Direction plan[kLaunchDirections];

  CRNN_HD int64_t row(int64_t p, int64_t n, int64_t k) const { return (p * N + n) * K + k; }
  CRNN_HD int64_t plane() const { return P * N * K * D; }  // elements between two states
  CRNN_HD int64_t initial_at(int64_t j, int64_t n, int64_t k) const { return ((j * N + n) * K + k) * D; }
};

struct ForwardCall : ScanCall {
  Rows z;
  void *state, *saved;
};

// dshares [K, tiles, params, D] of the computing type: a tile's share in the gradient of cell_params; the
// boundary sums them. dstart [segments, states, N, K, D], null without initial: of segments that start there.
struct BackwardCall : ScanCall {
  Rows dstate;
  int64_t dstate_plane;
  const void *state, *saved;
  void *dz, *dstart, *dshares;
  int64_t tiles;
};

// A scan as the variants judge it. `strides` of z or dstate may be any; aligned: every row of every tensor
// begins at a multiple of 16 bytes.
struct ScanProblem {
  int cell;  // its place in Cells
  Dtype dtype;
  int64_t P, N, K, D;
  int64_t chains;  // of the direction that has most: samples times segments
  int64_t steps;   // of a segment, of the direction whose have most
  bool backward, aligned;
  bool small;  // P, and the chains of each direction, fit an int
  bool cont;   // there is one
  bool exact;  // products of floats may not be rounded to tf32
};

}  // namespace crnn
