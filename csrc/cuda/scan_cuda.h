// The scan ops on CUDA tensors. Contract: csrc/core/scan.h, crnn/ops/scan.py.
#pragma once

#include <tuple>

#include "../core/scan.h"
#include "../core/text.h"

namespace crnn {

std::tuple<Tensor, Tensor> scan_cuda(const Tensor& z, const Tensor& whh,
    const std::optional<Tensor>& cell_params, const std::optional<Tensor>& initial,
    const std::optional<Tensor>& cont, std::vector<int64_t> plan, Text cell, Text variant);

std::tuple<Tensor, Tensor, Tensor> scan_backward_cuda(const Tensor& dstate, const Tensor& whh,
    const std::optional<Tensor>& cell_params, const std::optional<Tensor>& initial,
    const std::optional<Tensor>& cont, const Tensor& state, const Tensor& saved, std::vector<int64_t> plan,
    Text cell, Text variant);

}  // namespace crnn
