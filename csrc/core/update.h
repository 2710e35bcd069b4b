// The boundary of the update op: everything a backend may assume, checked once, for every backend.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "updates.h"

namespace crnn {

using torch::stable::Tensor;

// The arguments of a call. What they mean: crnn/ops/update.py.
struct UpdateInputs {
  std::vector<Tensor> blobs, grads, history;
  std::string rule;
  std::vector<double> numbers;
  double rate, decay;
  bool l1;
  double scale;

  Regularizer regularizer() const {
    return decay == 0 ? Regularizer::kNone : l1 ? Regularizer::kL1 : Regularizer::kL2;
  }
};

// Whether the values fill a piece of memory without gaps, in whatever order of the dimensions.
inline bool is_dense(const Tensor& t) {
  std::vector<int64_t> order(t.dim());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return t.stride(a) < t.stride(b); });
  int64_t stride = 1;
  if (t.numel() == 0) return true;
  for (int64_t i : order) {
    if (t.size(i) == 1) continue;
    if (t.stride(i) != stride) return false;
    stride *= t.size(i);
  }
  return true;
}

inline bool lie_alike(const Tensor& a, const Tensor& b) {
  bool alike = a.dim() == b.dim() && a.scalar_type() == b.scalar_type() && a.device() == b.device();
  for (int64_t i = 0; alike && i < a.dim(); ++i)
    alike = a.size(i) == b.size(i) && (a.size(i) == 1 || a.numel() == 0 || a.stride(i) == b.stride(i));
  return alike;
}

inline void check_update(const UpdateInputs& in) {
  size_t histories = 0, numbers = 0;
  const bool known =
      Rules::visit(in.rule, [&](auto rule) { histories = rule.kHistories, numbers = rule.kNumbers; });
  STD_TORCH_CHECK(known, "crnn::update: unknown rule '", in.rule, "'");
  STD_TORCH_CHECK(in.numbers.size() == numbers, "crnn::update: rule '", in.rule, "' has ", numbers,
      " numbers, got ", in.numbers.size());
  const size_t count = in.blobs.size();
  STD_TORCH_CHECK(count > 0, "crnn::update: no blobs");
  STD_TORCH_CHECK(in.grads.size() == count && in.history.size() == histories * count, "crnn::update: ", count,
      " blobs of rule '", in.rule, "' need as many gradients and ", histories * count, " histories, got ",
      in.grads.size(), " and ", in.history.size());
  for (size_t i = 0; i < count; ++i) {
    const Tensor& blob = in.blobs[i];
    STD_TORCH_CHECK(blob.scalar_type() == in.blobs[0].scalar_type() && blob.device() == in.blobs[0].device(),
        "crnn::update: blob ", i, " has not the dtype and device of blob 0");
    STD_TORCH_CHECK(is_dense(blob), "crnn::update: blob ", i, " has gaps in memory");
    bool alike = lie_alike(blob, in.grads[i]);
    for (size_t h = 0; h < histories; ++h) alike &= lie_alike(blob, in.history[h * count + i]);
    STD_TORCH_CHECK(alike, "crnn::update: gradient and history of blob ", i,
        " must have its shape, dtype, device and order of memory");
  }
}

}  // namespace crnn
