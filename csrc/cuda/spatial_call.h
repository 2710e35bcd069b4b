// What the boundary (spatial_cuda.cpp) hands to a kernel of spatial_scan, beside a scan's. No torch in it.
#pragma once

#include <span>

#include "scan_call.h"

namespace crnn {

// z is the scan's input; with w_ih it is x [P, N, C], the same for every direction (z.k = 0). w_ih [., G*D,
// C] and bias [., G*D] or null: elements from direction to direction.
struct SpatialCall : ForwardCall {
  const void *w_ih, *bias;
  int64_t C, w_ih_k, bias_k;
  void* y;      // [N, P, D], or null: the directions are not summed
  float scale;  // of their sum
};

// As the table judges it. Where the directions are summed, they are K of one launch.
struct SpatialProblem : ScanProblem {
  int64_t C;  // channels of x; 0 where z is given
  bool summed;
  bool same_positions;  // the directions' chains, one by one: Direction::same_segments
};

struct SpatialKernel {
  int cell;  // its place in Cells
  int D;     // channels that it can take
  int N;     // chains that a block takes
  int threads;
  int64_t forward_bytes;  // of shared memory
  void (*forward)(const SpatialCall&, int64_t tiles, int directions, void* stream);
};

// Sorted by D, then N.
using SpatialKernels = std::span<const SpatialKernel>;
SpatialKernels summing_bf16();
SpatialKernels summing_half();
SpatialKernels projecting_bf16();
SpatialKernels projecting_half();

}  // namespace crnn
