// spatial_scan on the CPU: the scan, then the sum of its directions in one pass: it reads the states once
// more and writes a K-th of them. (torch's sum over an axis between others takes up to nine times as long.)
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>

#include "../core/spatial_scan.h"
#include "scan_cpu.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kBlock = 64;        // channels that are summed in registers
constexpr int64_t kValues = 1 << 15;  // of states, at the least, for a thread

// y [N, P, D] = scale * sum over k of h [P, N, K, D], in the order of the directions, in float or double.
template <typename S>
void sum_directions(const ScanShape& q, double scale, const S* h, S* y) {
  using T = std::conditional_t<std::is_same_v<S, double>, double, float>;
  const auto sum_row = [&](const S* row, S* out) {
    for (int64_t first = 0; first < q.D; first += kBlock) {
      const int64_t count = std::min(kBlock, q.D - first);
      T sum[kBlock];
      for (int64_t d = 0; d < count; ++d) sum[d] = T(row[first + d]);
      for (int64_t k = 1; k < q.K; ++k)
        for (int64_t d = 0; d < count; ++d) sum[d] += T(row[k * q.D + first + d]);
      for (int64_t d = 0; d < count; ++d) out[first + d] = S(sum[d] * T(scale));
    }
  };
  const int64_t grain = kValues / std::max<int64_t>(1, q.N * q.K * q.D) + 1;
  torch::stable::parallel_for(0, q.P, grain, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p)
      for (int64_t n = 0; n < q.N; ++n) sum_row(h + (p * q.N + n) * q.K * q.D, y + (n * q.P + p) * q.D);
  });
}

std::tuple<Tensor, Tensor, Tensor> spatial_scan_cpu(const Tensor& x, const OptionalTensor& w_ih,
    const OptionalTensor& bias, const Tensor& whh, const OptionalTensor& cell_params,
    std::vector<int64_t> plan, Text cell, Text combine, Text variant) {
  const ScanInputs in{whh, cell_params, std::nullopt, std::nullopt, plan, cell};
  const ScanShape q = check_spatial_scan({x, w_ih, bias, combine}, in);
  STD_TORCH_CHECK(!w_ih, "crnn::spatial_scan on cpu: it sums directions, and projects on cuda alone");
  const auto [state, saved] = scan_cpu(
      x, whh, cell_params, std::nullopt, std::nullopt, std::move(plan), std::move(cell), std::move(variant));
  const bool summed = combine != "concat";
  Tensor y = torch::stable::new_empty(x, {summed ? q.N : 0, q.P, q.D});
  const double scale = combine == "mean" ? 1.0 / double(q.K) : 1.0;
  if (summed)
    THO_DISPATCH_V2(x.scalar_type(), "crnn::spatial_scan on cpu", AT_WRAP([&] {
      sum_directions(q, scale, state.const_data_ptr<scalar_t>(), y.mutable_data_ptr<scalar_t>());
    }),
        AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return {y, state, saved};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("spatial_scan", TORCH_BOX(&spatial_scan_cpu));
}

}  // namespace crnn
