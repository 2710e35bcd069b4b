// The boundary of the transposed op: everything a backend may assume, checked once, for every backend.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace crnn {

using torch::stable::Tensor;

// `count` matrices of rows x columns.
struct TransposedShape {
  int64_t count, rows, columns;
};

inline TransposedShape check_transposed(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 3, "crnn::transposed: x must be [N, A, B], got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(x.is_contiguous(), "crnn::transposed: x must be contiguous");
  return {x.size(0), x.size(1), x.size(2)};
}

}  // namespace crnn
