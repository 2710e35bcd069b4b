// A tensor's dtype as the kernels know it. For .cpp files that see torch.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include "scan_call.h"  // Dtype

namespace crnn {

inline Dtype dtype_of(const torch::stable::Tensor& t, const char* op) {
  using torch::headeronly::ScalarType;
  switch (t.scalar_type()) {
    case ScalarType::Double:
      return Dtype::kDouble;
    case ScalarType::Float:
      return Dtype::kFloat;
    case ScalarType::BFloat16:
      return Dtype::kBFloat16;
    case ScalarType::Half:
      return Dtype::kHalf;
    default:
      break;
  }
  STD_TORCH_CHECK(false, op, " on cuda: dtype must be float64, float32, bfloat16 or float16");
}

}  // namespace crnn
