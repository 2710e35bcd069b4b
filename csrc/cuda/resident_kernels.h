// The compiled resident kernels, as the host sees them. Each resident_<dtype>.cu holds some.
#pragma once

#include <span>

#include "scan_call.h"

namespace crnn {

struct ResidentKernel {
  int cell;  // its place in Cells
  int D;     // channels that it can take
  int N;     // chains that a block takes
  int threads;
  int64_t forward_bytes, backward_bytes;  // of shared memory
  void (*forward)(const ForwardCall&, int64_t tiles, int directions, void* stream);
  void (*backward)(const BackwardCall&, int64_t tiles, int directions, void* stream);
};

// Sorted by D, then N.
using ResidentKernels = std::span<const ResidentKernel>;
ResidentKernels resident_bf16();
ResidentKernels resident_half();
ResidentKernels resident_float();  // products of floats, nearly exact
ResidentKernels resident_tf32();   // of floats rounded to tf32

}  // namespace crnn
