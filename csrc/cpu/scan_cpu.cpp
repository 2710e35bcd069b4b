// The scan on the CPU: a thread takes a tile of sequences through all their steps (tile.h).
//
//   work     a unit is (direction, tile of chains); a chain is (segment, sample), a segment being the steps
//            that nothing enters (forward) or leaves (backward) but through its ends: plan.h
//   memory   the tile's states stay in a buffer of [kTile, D]; W_hh is packed once a call and read from cache
//   order    a chain's bits do not depend on its unit, and where a sum goes over a unit's chains, units
//            do not depend on the number of threads: equal bits for any number
//   cost     gates * D * D multiply-adds per position, and each of z, state (dstate, dz) touched once
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

// W_hh, and each row of W_ih behind W_hh's: [K, gates*D, D + C].
template <typename S>
Aligned<S> side_by_side(const ScanShape& q, const S* whh, const Tensor& w_ih) {
  const int64_t C = w_ih.size(2), rows = q.gates * q.D;
  const S* wih = w_ih.const_data_ptr<S>();
  Aligned<S> both(q.K * rows * (q.D + C));
  torch::stable::parallel_for(0, q.K * rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      S* out = std::copy_n(whh + r * q.D, q.D, both.data() + r * (q.D + C));
      std::copy_n(wih + (w_ih.size(0) == 1 ? r % rows : r) * C, C, out);
    }
  });
  return both;
}

// run(unit, scratch) for all of `work`, on torch's threads; one thread takes the units u, u + apart, ... .
template <typename T, typename Run>
void parallel_units(const std::vector<Unit>& work, int64_t apart, int64_t scratch_size, Run&& run) {
  share_out(apart, [&] {
    return [&, scratch = Aligned<T>(scratch_size)](int64_t first) {
      for (int64_t u = first; u < int64_t(work.size()); u += apart) run(work[u], scratch.data());
    };
  });
}

template <typename S>
void run_forward(const ScanShape& given, const ScanInputs& in, const std::string& variant, const Added& added,
    Tensor& state, Tensor& saved, const Sum* sum) {
  ScanShape q = given;
  if (sum)  // the chains of all directions in one order
    for (Direction& d : q.plan) d = d.lines_sorted();
  const Tiles<S>& tiles = choose_tiles<S>(variant);
  const auto& [z, zs, x, w_ih] = added;
  const int64_t C = w_ih ? w_ih->size(2) : 0;
  ForwardCall<S> call{make_call<S>(q, in, tiles.width), z.const_data_ptr<S>(), optional_data<S>(x), zs,
      x ? Strides{x->stride(0), x->stride(1), 0} : Strides{}, C, state.mutable_data_ptr<S>(),
      saved.mutable_data_ptr<S>(), sum ? sum->y.mutable_data_ptr<S>() : nullptr,
      Compute<S>(sum ? sum->scale : 1)};
  int64_t scratch = 0, first_gates = 0;
  Cells::visit(in.cell, [&](auto c) {
    scratch = forward_scratch<decltype(c)>(q.D, C, tiles.width), first_gates = c.kFirstGates;
  });
  const S* whh = in.whh.const_data_ptr<S>();
  const Aligned<S> both = w_ih ? side_by_side(q, whh, *w_ih) : Aligned<S>();
  const Packed<S> packed(q, w_ih ? both.data() : whh, q.D + C, tiles, first_gates, true, call);
  const auto tile = tiles.forward[Cells::index(in.cell)];
  const std::vector<Unit> work =
      units(q, tiles.rows, false, [](const Direction& d) { return d.value_segments(); });
  const int64_t count = work.size();
  parallel_units<Compute<S>>(work, sum ? count / q.K : count, scratch,
      [&](const Unit& u, Compute<S>* buffer) { tile(call, u, buffer); });
}

}  // namespace

bool sums_alone(const ScanShape& q, const Tensor& like) {
  const ScalarType type = like.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double) return false;
  const Direction first = q.plan[0].lines_sorted();
  for (const Direction& d : q.plan)
    if (!first.same_segments(d.lines_sorted())) return false;
  return first.value_segments().count * q.N >= kUnits * kTile;
}

std::tuple<Tensor, Tensor> scan_forward(const ScanShape& q, const ScanInputs& in, const Added& added,
    const std::string& variant, const Sum* sum) {
  const Tensor& z = added.z;
  const int64_t kept = sum ? 0 : q.P;
  Tensor state = torch::stable::new_empty(z, {q.states, kept, q.N, q.K, q.D});
  Tensor saved = torch::stable::new_empty(z, {kept, q.N, q.K, q.saved, q.D});
  THO_DISPATCH_V2(z.scalar_type(), "crnn::scan on cpu",
      AT_WRAP([&] { run_forward<scalar_t>(q, in, variant, added, state, saved, sum); }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return {state, saved};
}

namespace {

std::tuple<Tensor, Tensor> scan_cpu(const Tensor& z, const Tensor& whh, const OptionalTensor& cell_params,
    const OptionalTensor& initial, const OptionalTensor& cont, std::vector<int64_t> plan, Text cell,
    Text variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(z, in);
  check_rows(z, q.gates * q.D, "z");
  return scan_forward(q, in, {z, strides(z)}, variant);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan_cpu));
}

}  // namespace crnn
