// The update op on CUDA tensors. Contract: csrc/core/update.h, crnn/ops/update.py.
#pragma once

#include "../core/text.h"
#include "../core/update.h"

namespace crnn {

void update_cuda(std::vector<Tensor> blobs, std::vector<Tensor> grads, std::vector<Tensor> history, Text rule,
    std::vector<double> numbers, double rate, double decay, bool l1, double scale, Text variant);

}  // namespace crnn
