// The scan's gradients on the CPU: of z, of the cell's parameters, of the initial states, and of W_hh.
//
//   work     as forward (scan_cpu.cpp); of a W_hh so small that its gradient stays in the second cache beside
//            all else, a unit's share is summed while its dz and h are in cache, else by a pass of its own
//   order    sums over chains go by units, or groups of them, that do not depend on the number of threads
//   cost     twice forward's multiply-adds; dstate, h and dz touched once, h and dz again by a pass apart
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "../core/text.h"
#include "scan_cpu.h"
#include "scan_units.h"
#include "share_out.h"
#include "tile_choice.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kInside = 1 << 14;  // values of a direction's W_hh, at most, whose gradient is not apart
// That gradient is the sum of some: kGroups of all directions, or more of so many (step, sample) each; but no
// more than there are units.
constexpr int64_t kGroups = 16, kGroupSteps = 1 << 11;

// Units of a group are of one direction and share a sum of d W_hh; without sums each unit is alone.
std::vector<Group> groups(const ScanShape& q, const std::vector<Unit>& work, bool sums) {
  std::vector<Group> list;
  for (int64_t first = 0, end; first < int64_t(work.size()); first = end) {
    for (end = first; end < int64_t(work.size()) && work[end].k == work[first].k;) ++end;
    const int64_t units = end - first, wanted = std::max(kGroups / q.K, q.P * q.N / kGroupSteps),
                  count = sums ? std::min(units, std::max<int64_t>(1, wanted)) : units;
    for (int64_t g = 0; g < count; ++g)
      list.push_back({first + units * g / count, first + units * (g + 1) / count});
  }
  return list;
}

// d W_hh is written where dwhh is not null.
template <typename S>
void run(const ScanShape& q, const ScanInputs& in, const std::string& variant, BackwardCall<S> call,
    S* dcell_params, S* dwhh) {
  using T = Compute<S>;
  const Tiles<S>& tiles = choose_tiles<S>(variant);
  static_cast<Call<S>&>(call) = make_call<S>(q, in, tiles.width);
  int64_t scratch_size = 0, first_gates = 0;
  Cells::visit(in.cell, [&](auto c) {
    scratch_size = backward_scratch<decltype(c)>(q.D, tiles.rows, tiles.width, dwhh);
    first_gates = c.kFirstGates;
  });
  const Packed<S> packed(q, in.whh, {}, false, tiles, first_gates, call);
  const std::vector<Unit> work =
      units(q, tiles.rows, dwhh || q.params, [](const Direction& d) { return d.gradient_segments(); });
  const std::vector<Group> parts = groups(q, work, dwhh);
  const int64_t params = q.params * q.D, width = round_up(q.D, tiles.width);
  const int64_t rows[2] = {first_gates * q.D, (q.gates - first_gates) * q.D};
  const int64_t behind = round_up(rows[0], tiles.rows) * width,
                size = dwhh ? behind + round_up(rows[1], tiles.rows) * width : 0;
  const Aligned<T> weights(parts.size() * size);
  std::vector<T> shares(work.size() * params), sums(q.K * params);
  call.dparams = shares.data(), call.end = work.data() + work.size();
  const auto tile = tiles.backward[Cells::index(in.cell)];
  share_out(parts.size(), [&] {
    return [&, scratch = Aligned<T>(scratch_size)](int64_t g) {
      T* const sum = dwhh ? weights.data() + g * size : nullptr;
      std::fill_n(sum, size, T(0));
      tile(call, work.data() + parts[g].first, parts[g].end - parts[g].first, sum, scratch.data());
    };
  });
  for (const Unit& u : work)
    for (int64_t i = 0; i < params; ++i) sums[u.k * params + i] += shares[u.index * params + i];
  std::copy(sums.begin(), sums.end(), dcell_params);
  if (!dwhh) return;
  std::vector<int64_t> starts(q.K + 1);  // groups before direction k
  for (const Group& g : parts) ++starts[work[g.first].k + 1];
  for (int64_t k = 0; k < q.K; ++k) starts[k + 1] += starts[k];
  torch::stable::parallel_for(0, q.K, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k)
      for (int phase : {0, 1})
        add_shares(weights.data() + starts[k] * size + phase * behind, starts[k + 1] - starts[k], size,
            rows[phase], width, q.D, dwhh + (k * q.gates * q.D + phase * rows[0]) * q.D);
  });
}

// dz, dcell_params, dinitial, and with `weights` d W_hh, else an empty tensor.
std::tuple<Tensor, Tensor, Tensor, Tensor> gradients(const Tensor& dstate, const ScanInputs& in,
    const Tensor& state, const Tensor& saved, const std::string& variant, bool weights) {
  const ScanShape q =
      check_scan_backward(dstate, state, saved, in, [](const ScanShape& s) { return s.saved * s.D; });
  check_rows(dstate, q.D, "dstate");
  int64_t starts = 0;  // segments of the direction that has most
  for (const Direction& d : q.plan) starts = std::max(starts, in.initial ? d.gradient_segments().count : 0);
  // In the order of dstate, which is the map's or z's: their gradients are then not copied.
  const bool by_sample = dstate.stride(2) >= dstate.stride(1);
  const int64_t outer = by_sample ? q.N : q.P, inner = by_sample ? q.P : q.N;
  const Tensor rows = torch::stable::new_empty(state, {outer, inner, q.K, q.gates * q.D});
  const Tensor dz = by_sample ? torch::stable::transpose(rows, 0, 1) : rows;
  Tensor dcell_params = torch::stable::new_empty(state, {q.params ? q.K : 0, q.params, q.D});
  Tensor dstart = torch::stable::new_zeros(state, {starts, q.states, q.N, q.K, q.D});
  Tensor dwhh = torch::stable::new_empty(state, {weights ? q.K : 0, q.gates * q.D, q.D});
  const bool inside = weights && q.gates * q.D * q.D <= kInside && q.P * q.N > 0;
  THO_DISPATCH_V2(state.scalar_type(), "crnn::scan_backward on cpu", AT_WRAP([&] {
    run<scalar_t>(q, in, variant,
        {{}, state.const_data_ptr<scalar_t>(), saved.const_data_ptr<scalar_t>(),
            dstate.const_data_ptr<scalar_t>(), strides(dstate, 1), dstate.stride(0),
            dz.mutable_data_ptr<scalar_t>(), strides(dz),
            in.initial ? dstart.mutable_data_ptr<scalar_t>() : nullptr, nullptr, nullptr},
        dcell_params.mutable_data_ptr<scalar_t>(), inside ? dwhh.mutable_data_ptr<scalar_t>() : nullptr);
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  if (weights && !inside) scan_weights(q, in, dz, state, saved, variant, dwhh);
  const std::vector<int64_t> segments{0};
  const Tensor dinitial = in.initial ? torch::stable::sum(dstart, segments)
                                     : torch::stable::new_zeros(state, {q.states, q.N, q.K, q.D});
  return {dz, dcell_params, dinitial, dwhh};
}

std::tuple<Tensor, Tensor, Tensor> scan_backward_cpu(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, Text cell, Text variant) {
  const auto [dz, dcell_params, dinitial, none] = gradients(dstate,
      {whh, cell_params, initial, cont, std::move(plan), std::move(cell)}, state, saved, variant, false);
  return {dz, dcell_params, dinitial};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> scan_whole_backward_cpu(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, Text cell, Text variant) {
  return gradients(dstate, {whh, cell_params, initial, cont, std::move(plan), std::move(cell)}, state, saved,
      variant, true);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("scan_backward", TORCH_BOX(&scan_backward_cpu));
  m.impl("scan_whole_backward", TORCH_BOX(&scan_whole_backward_cpu));
}

}  // namespace crnn
