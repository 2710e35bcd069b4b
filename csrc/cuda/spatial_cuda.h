// The spatial_scan op on CUDA tensors. Contract: csrc/core/spatial_scan.h, crnn/ops/spatial_scan.py.
#pragma once

#include <tuple>

#include "../core/spatial_scan.h"
#include "../core/text.h"

namespace crnn {

std::tuple<Tensor, Tensor, Tensor> spatial_scan_cuda(const Tensor& x, const std::optional<Tensor>& w_ih,
    const std::optional<Tensor>& bias, const Tensor& whh, const std::optional<Tensor>& cell_params,
    std::vector<int64_t> plan, Text cell, Text combine, Text variant, bool states);

}  // namespace crnn
