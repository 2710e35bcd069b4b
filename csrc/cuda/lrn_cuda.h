// The lrn ops on CUDA tensors. Contract: csrc/core/lrn.h, crnn/ops/lrn.py.
#pragma once

#include "../core/lrn.h"
#include "../core/text.h"

namespace crnn {

Tensor lrn_cuda(
    const Tensor& x, int64_t size, double alpha, double beta, double k, bool within, Text variant);

Tensor lrn_backward_cuda(const Tensor& dy, const Tensor& x, int64_t size, double alpha, double beta, double k,
    bool within, Text variant);

}  // namespace crnn
