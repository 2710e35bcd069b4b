// The lrn ops on CUDA tensors. Contract: csrc/core/lrn.h, crnn/ops/lrn.py.
#pragma once

#include <string>

#include "../core/lrn.h"

namespace crnn {

Tensor lrn_cuda(
    const Tensor& x, int64_t size, double alpha, double beta, double k, bool within, std::string variant);

Tensor lrn_backward_cuda(const Tensor& dy, const Tensor& x, int64_t size, double alpha, double beta, double k,
    bool within, std::string variant);

}  // namespace crnn
