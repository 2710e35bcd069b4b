// The scan op on CPU tensors. Contract: csrc/core/scan.h, crnn/ops/scan.py.
#pragma once

#include <tuple>

#include "../core/scan.h"
#include "../core/text.h"

namespace crnn {

// state [states, P, N, K, D] and what backward needs.
std::tuple<Tensor, Tensor> scan_cpu(const Tensor& z, const Tensor& whh,
    const std::optional<Tensor>& cell_params, const std::optional<Tensor>& initial,
    const std::optional<Tensor>& cont, std::vector<int64_t> plan, Text cell, Text variant);

}  // namespace crnn
