// The boundary of the lrn op: everything a backend may assume, checked once, for every backend.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>

#include "lrn_power.h"

namespace crnn {

using torch::stable::Tensor;

// The numbers of a call. What they mean: crnn/ops/lrn.py.
struct LrnInputs {
  int64_t size;
  double alpha, beta, k;
  bool within;

  // What multiplies the sum of squares of a window.
  double share() const { return alpha / (within ? double(size) * double(size) : double(size)); }
  bool three_quarters() const { return beta == 0.75; }
};

struct LrnShape {
  int64_t N, C, H, W;
  bool channels_last;  // memory is [N, H, W, C]; else [N, C, H, W]
};

// The length of the window that finds values: beyond it lie zeros alone.
inline int64_t reach(const LrnShape& q, const LrnInputs& in) {
  const int64_t extent = in.within ? std::max(q.H, q.W) : q.C;
  return std::min(in.size, std::max<int64_t>(1, 2 * extent - 1));
}

inline bool is_channels_last(const Tensor& t) {
  int64_t stride = 1;
  for (int64_t i : {1, 3, 2, 0}) {
    if (t.size(i) != 1 && t.stride(i) != stride) return false;
    stride *= t.size(i);
  }
  return true;
}

inline LrnShape check_lrn(const Tensor& x, const LrnInputs& in) {
  STD_TORCH_CHECK(x.dim() == 4, "crnn::lrn: x must be [N, C, H, W], got ", x.dim(), " dimensions");
  STD_TORCH_CHECK(in.size > 0 && in.size % 2 == 1, "crnn::lrn: size must be odd, got ", in.size);
  const LrnShape shape{x.size(0), x.size(1), x.size(2), x.size(3), !x.is_contiguous()};
  STD_TORCH_CHECK(!shape.channels_last || is_channels_last(x),
      "crnn::lrn: x must be contiguous, as [N, C, H, W] or in channels_last order");
  return shape;
}

// dy must be read as x is.
inline LrnShape check_lrn_backward(const Tensor& dy, const Tensor& x, const LrnInputs& in) {
  const LrnShape shape = check_lrn(x, in);
  bool equal = dy.dim() == 4 && dy.scalar_type() == x.scalar_type();
  for (int64_t i = 0; equal && i < 4; ++i) equal = dy.size(i) == x.size(i);
  STD_TORCH_CHECK(equal, "crnn::lrn_backward: dy must have x's shape and dtype");
  STD_TORCH_CHECK(shape.channels_last ? is_channels_last(dy) : dy.is_contiguous(),
      "crnn::lrn_backward: dy must lie in memory as x does");
  return shape;
}

}  // namespace crnn
