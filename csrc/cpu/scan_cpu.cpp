// The scan on the CPU: a thread takes a tile of sequences through all their steps (scan_tile.h).
//
//   work     a unit is (direction, tile of chains); a chain is (segment, sample), a segment being the steps
//   that
//            nothing enters (forward) or leaves (backward) but through its ends: plan.h
//   memory   the tile's states stay in a buffer of [kTile, D]; W_hh is packed once a call and read from cache
//   order    units and the sums inside them do not depend on the number of threads: equal bits for any number
//   cost     gates * D * D multiply-adds per position, and each of z, state (dstate, dz) touched once
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <tuple>
#include <type_traits>

#include "scan_tile.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

// float and double compute in themselves, half and bfloat16 in float.
template <typename S>
using Compute = std::conditional_t<sizeof(S) == 2, float, S>;

template <typename SegmentsOf>
std::vector<Unit> units(const ScanShape& q, SegmentsOf&& segments_of) {
  std::vector<Unit> list;
  for (int64_t k = 0; k < q.K; ++k) {
    const Segments segments = segments_of(q.plan[k]);
    const int64_t chains = segments.count * q.N, tiles = (chains + kTile - 1) / kTile;
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = chains * t / tiles;
      list.push_back({int64_t(list.size()), k, first, chains * (t + 1) / tiles - first, segments});
    }
  }
  return list;
}

// A call's units on torch's threads; run(cell, unit).
template <typename Run>
void parallel_units(const std::string& cell, const std::vector<Unit>& work, Run&& run) {
  Cells::visit(cell, [&](auto c) {
    torch::stable::parallel_for(0, work.size(), 1, [&](int64_t begin, int64_t end) {
      for (int64_t u = begin; u < end; ++u) run(c, work[u]);
    });
  });
}

template <typename T>
const Panel<T>& choose_panel(const std::string& variant) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  const bool avx2 = false;
#endif
  if (variant == "portable" || (variant.empty() && !avx2)) return panel_portable<T>();
  STD_TORCH_CHECK(variant.empty() || variant == "avx2", "crnn::scan: unknown variant '", variant,
      "' on cpu; known: portable, avx2");
  STD_TORCH_CHECK(avx2, "crnn::scan: variant 'avx2' needs a processor with AVX2 and FMA");
  return panel_avx2<T>();
}

template <typename S>
const S* optional_data(const std::optional<Tensor>& t) {
  return t ? t->const_data_ptr<S>() : nullptr;
}

template <typename S>
Call<S, Compute<S>> make_call(const ScanShape& q, const ScanInputs& in, const std::string& variant) {
  return {q, choose_panel<Compute<S>>(variant), optional_data<S>(in.cell_params),
      optional_data<S>(in.initial), optional_data<S>(in.cont)};
}

int64_t first_gates(const std::string& cell) {
  int64_t gates = 0;
  Cells::visit(cell, [&](auto c) { gates = c.kFirstGates; });
  return gates;
}

template <typename S>
void run_forward(const ScanShape& q, const ScanInputs& in, const std::string& variant, const Tensor& z,
    Tensor& state, Tensor& saved) {
  auto call = make_call<S>(q, in, variant);
  const int64_t D = q.D, first = first_gates(in.cell);
  const S* whh = in.whh.const_data_ptr<S>();
  call.pack_all(0, whh, D, first * D, 1, D);
  call.pack_all(1, whh + first * D * D, D, (q.gates - first) * D, 1, D);
  const Values<S> v{
      z.const_data_ptr<S>(), Strides(z), state.mutable_data_ptr<S>(), saved.mutable_data_ptr<S>()};
  parallel_units(in.cell, units(q, [](const Direction& d) { return d.value_segments(); }),
      [&](auto c, const Unit& u) { ForwardTile<decltype(c), S, Compute<S>>{call, u, v}.run(); });
}

template <typename S>
void run_backward(const ScanShape& q, const ScanInputs& in, const std::string& variant,
    Gradients<S, Compute<S>> g, S* dcell_params) {
  auto call = make_call<S>(q, in, variant);
  const int64_t D = q.D, first = first_gates(in.cell), size = q.params * D;
  const S* whh = in.whh.const_data_ptr<S>();
  call.pack_all(0, whh, first * D, D, D, 1);
  call.pack_all(1, whh + first * D * D, (q.gates - first) * D, D, D, 1);
  const std::vector<Unit> work = units(q, [](const Direction& d) { return d.gradient_segments(); });
  std::vector<Compute<S>> shares(work.size() * size), sums(q.K * size);
  g.dparams = shares.data();
  parallel_units(in.cell, work,
      [&](auto c, const Unit& u) { BackwardTile<decltype(c), S, Compute<S>>{call, u, g}.run(); });
  for (const Unit& u : work)
    for (int64_t i = 0; i < size; ++i) sums[u.k * size + i] += shares[u.index * size + i];
  std::copy(sums.begin(), sums.end(), dcell_params);
}

using OptionalTensor = std::optional<Tensor>;

std::tuple<Tensor, Tensor> scan_cpu(const Tensor& z, const Tensor& whh, const OptionalTensor& cell_params,
    const OptionalTensor& initial, const OptionalTensor& cont, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(z, in);
  check_rows(z, q.gates * q.D, "z");
  Tensor state = torch::stable::new_empty(z, {q.states, q.P, q.N, q.K, q.D});
  Tensor saved = torch::stable::new_empty(z, {q.P, q.N, q.K, q.saved, q.D});
  THO_DISPATCH_V2(z.scalar_type(), "crnn::scan on cpu",
      AT_WRAP([&] { run_forward<scalar_t>(q, in, variant, z, state, saved); }), AT_EXPAND(AT_FLOATING_TYPES),
      ScalarType::Half, ScalarType::BFloat16);
  return {state, saved};
}

std::tuple<Tensor, Tensor, Tensor> scan_backward_cpu(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, std::string cell,
    std::string variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(torch::stable::select(state, 0, 0), in);
  check_rows(dstate, q.D, "dstate");
  int64_t starts = 0;  // segments of the direction that has most
  for (const Direction& d : q.plan) starts = std::max(starts, initial ? d.gradient_segments().count : 0);
  Tensor dz = torch::stable::new_empty(state, {q.P, q.N, q.K, q.gates * q.D});
  Tensor dcell_params = torch::stable::new_empty(state, {q.params ? q.K : 0, q.params, q.D});
  Tensor dstart = torch::stable::new_zeros(state, {starts, q.states, q.N, q.K, q.D});
  THO_DISPATCH_V2(state.scalar_type(), "crnn::scan_backward on cpu", AT_WRAP([&] {
    run_backward<scalar_t>(q, in, variant,
        {state.const_data_ptr<scalar_t>(), saved.const_data_ptr<scalar_t>(),
            dstate.const_data_ptr<scalar_t>(), Strides(dstate, 1), dstate.stride(0),
            dz.mutable_data_ptr<scalar_t>(), initial ? dstart.mutable_data_ptr<scalar_t>() : nullptr,
            nullptr},
        dcell_params.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  const std::vector<int64_t> segments{0};
  return {dz, dcell_params, torch::stable::sum(dstart, segments)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan_cpu));
  m.impl("scan_backward", TORCH_BOX(&scan_backward_cpu));
}

}  // namespace crnn
