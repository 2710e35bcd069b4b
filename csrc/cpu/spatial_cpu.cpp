// spatial_scan on the CPU: the input projection, the scan, and the sum of its directions.
//
//   projection  by the scan itself: a row of x stands behind each h, W_ih behind W_hh, and z is never in
//               memory; by one product before the scan where that reads W_ih too often
//   sum         by the scan itself, in the cache of the thread that takes a part of the map through all
//               directions; else one pass, which reads the states once more and writes a K-th of them
//               (torch's sum over an axis between others takes up to nine times as long)
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <array>
#include <utility>

#include "../core/spatial_scan.h"
#include "../core/text.h"
#include "scan_cpu.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kBlock = 64;        // channels that are summed in registers
constexpr int64_t kValues = 1 << 15;  // of states, at the least, for a thread
constexpr int64_t kWidest = 768;      // D + C, at most, where the scan projects its input
constexpr int64_t kSmall = 1 << 13;   // weights of a direction that lie in the first cache anyway

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

// x as rows [N*P, C] of a map in channels_last order where x is one, else [P*N, C]; and whether it was one.
std::pair<Tensor, bool> rows_of(const Tensor& x) {
  const Tensor map = torch::stable::transpose(x, 0, 1);
  const bool is_map = map.is_contiguous();
  const Tensor dense = is_map || x.is_contiguous() ? x : torch::stable::contiguous(x);
  return {torch::stable::reshape(is_map ? map : dense, {x.size(0) * x.size(1), x.size(2)}), is_map};
}

// W_ih x + b of all positions by one product.
Added projected(const ScanShape& q, const Tensor& x, const Tensor& w_ih, const OptionalTensor& bias) {
  const int64_t columns = w_ih.size(0) * w_ih.size(1);
  const auto [rows, is_map] = rows_of(x);
  std::array<StableIValue, 3> stack{torch::stable::detail::from(rows),
      torch::stable::detail::from(torch::stable::reshape(w_ih, {columns, w_ih.size(2)})),
      torch::stable::detail::from(
          bias ? OptionalTensor(torch::stable::reshape(*bias, {columns})) : std::nullopt)};
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher("aten::linear", "", stack.data(), TORCH_ABI_VERSION));
  const Strides s = is_map ? Strides{columns, q.P * columns, 0} : Strides{q.N * columns, columns, 0};
  return {torch::stable::detail::to<Tensor>(stack[0]), {s.p, s.n, w_ih.size(0) == 1 ? 0 : w_ih.size(1)}};
}

// W_ih x by the scan itself, step by step: z is the bias.
Added with_input(const ScanShape& q, const Tensor& x, const Tensor& w_ih, const OptionalTensor& bias) {
  const Tensor z = bias ? *bias : torch::stable::new_zeros(x, {1, w_ih.size(1)});
  return {z, {0, 0, z.size(0) == 1 ? 0 : z.size(1)}, x, w_ih};
}

// Whether the scan projects its input: it then reads W_ih at each step, once for a tile of chains, where z
// would be written and read.
bool projects(const ScanShape& q, int64_t C) {
  int64_t chains = q.P * q.N;
  for (const Direction& d : q.plan) chains = std::min(chains, d.value_segments().count * q.N);
  const int64_t width = q.D + C;
  return (chains >= kTile && width <= kWidest) || q.gates * q.D * width <= kSmall;
}

std::tuple<Tensor, Tensor, Tensor> spatial_scan_cpu(const Tensor& x, const OptionalTensor& w_ih,
    const OptionalTensor& bias, const Tensor& whh, const OptionalTensor& cell_params,
    std::vector<int64_t> plan, Text cell, Text combine, Text variant, bool states) {
  const ScanInputs in{whh, cell_params, std::nullopt, std::nullopt, std::move(plan), std::move(cell)};
  const ScanShape q = check_spatial_scan({x, w_ih, bias, combine, states}, in);
  const Added added = !w_ih                    ? Added{x, {x.stride(0), x.stride(1), x.stride(2)}}
                      : projects(q, x.size(2)) ? with_input(q, x, *w_ih, bias)
                                               : projected(q, x, *w_ih, bias);
  const bool summed = combine != "concat";
  const Sum sum{torch::stable::new_empty(x, {summed ? q.N : 0, q.P, q.D}),
      combine == "mean" ? 1.0 / double(q.K) : 1.0, summed ? parts_of_sum(q, x, states) : Parts{}};
  const bool inside = sum.parts.count > 0;
  const auto [state, saved] = scan_forward(q, in, added, variant, states || !inside, inside ? &sum : nullptr);
  if (summed && !inside)
    THO_DISPATCH_V2(x.scalar_type(), "crnn::spatial_scan on cpu", AT_WRAP([&] {
      sum_directions(q, sum.scale, state.const_data_ptr<scalar_t>(), sum.y.mutable_data_ptr<scalar_t>());
    }),
        AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  if (states) return {sum.y, state, saved};
  return {sum.y, torch::stable::new_empty(x, {0}), torch::stable::new_empty(x, {0})};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("spatial_scan", TORCH_BOX(&spatial_scan_cpu));
}

}  // namespace crnn
