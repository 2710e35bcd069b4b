// The boundary of the inner_product ops: everything a backend may assume, checked once, for every backend.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

namespace crnn {

using torch::stable::Tensor;

// Of x [N, K], weight [O, K] and y [N, O].
struct InnerProductShape {
  int64_t N, O, K;
};

// Two matrices that have an axis in common: axis `a_axis` of a, `b_axis` of b.
inline void check_product(
    const char* op, const char* names, const Tensor& a, int a_axis, const Tensor& b, int b_axis) {
  STD_TORCH_CHECK(a.dim() == 2 && b.dim() == 2, op, ": ", names, " must be matrices, got ", a.dim(), " and ",
      b.dim(), " dimensions");
  STD_TORCH_CHECK(a.scalar_type() == b.scalar_type() && a.device() == b.device(), op, ": ", names,
      " must have one dtype and device");
  STD_TORCH_CHECK(a.is_contiguous() && b.is_contiguous(), op, ": ", names, " must be contiguous");
  STD_TORCH_CHECK(a.size(a_axis) == b.size(b_axis), op, ": ", names, " do not fit: [", a.size(0), ", ",
      a.size(1), "] and [", b.size(0), ", ", b.size(1), "]");
}

inline InnerProductShape check_inner_product(const Tensor& x, const Tensor& weight) {
  check_product("crnn::inner_product", "x and weight", x, 1, weight, 1);
  return {x.size(0), weight.size(0), x.size(1)};
}

inline InnerProductShape check_inner_product_input_backward(const Tensor& dy, const Tensor& weight) {
  check_product("crnn::inner_product_input_backward", "dy and weight", dy, 1, weight, 0);
  return {dy.size(0), dy.size(1), weight.size(1)};
}

inline InnerProductShape check_inner_product_weights_backward(const Tensor& dy, const Tensor& x) {
  check_product("crnn::inner_product_weights_backward", "dy and x", dy, 0, x, 0);
  return {dy.size(0), dy.size(1), x.size(1)};
}

}  // namespace crnn
