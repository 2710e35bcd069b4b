// The scan op on CPU tensors. Contract: csrc/core/scan.h, crnn/ops/scan.py.
#pragma once

#include <tuple>

#include "../core/scan.h"
#include "tile.h"

namespace crnn {

// What a step adds to W_hh h: z, rows of gates*D values at these strides over P, N and K; and, where they are
// given, W_ih x with x [P, N, C] and w_ih [K or 1, gates*D, C].
struct Added {
  Tensor z;
  Strides zs;
  std::optional<Tensor> x, w_ih;
};

// The directions' sum [N, P, D], times scale.
struct Sum {
  Tensor y;
  double scale;
};

// Whether the scan can write the sum and no states: in the type that it computes in, over directions whose
// chains hold the same positions, of which a thread takes a tile through all of them.
bool sums_alone(const ScanShape& q, const Tensor& like);

// state [states, P, N, K, D] and what backward needs; with `sum` that alone is written, and both are empty.
std::tuple<Tensor, Tensor> scan_forward(const ScanShape& q, const ScanInputs& in, const Added& added,
    const std::string& variant, const Sum* sum = nullptr);

}  // namespace crnn
