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
#include "share_out.h"
#include "tile_choice.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;
using OptionalTensor = std::optional<Tensor>;

constexpr int64_t kUnits = 8;      // smaller tiles rather than fewer units: work for some threads
constexpr int64_t kPerThread = 2;  // units that a thread should have at the least
constexpr int64_t kNarrow = 128;   // channels of which half a tile leaves the first cache room for W_hh

// Tiles of kTile chains, or half of it; of fewer, but not below a product's `rows`, where there would be too
// few units. How many that are may depend on the threads where no sum goes over a unit's chains.
template <typename SegmentsOf>
std::vector<Unit> units(const ScanShape& q, int64_t rows, SegmentsOf&& segments_of) {
  const int64_t wanted = q.params ? kUnits : kPerThread * torch::stable::get_num_threads();
  const int64_t most = q.D <= kNarrow && rows <= kTile / 2 ? kTile / 2 : kTile;
  std::vector<Unit> list;
  for (int64_t k = 0; k < q.K; ++k) {
    const Segments segments = segments_of(q.plan[k]);
    const int64_t chains = segments.count * q.N, few = std::min((chains + rows - 1) / rows, wanted / q.K),
                  tiles = std::max((chains + most - 1) / most, few);
    for (int64_t t = 0; t < tiles; ++t) {
      const int64_t first = chains * t / tiles;
      list.push_back({int64_t(list.size()), k, first, chains * (t + 1) / tiles - first, segments});
    }
  }
  return list;
}

template <typename S>
const S* optional_data(const OptionalTensor& t) {
  return t ? t->const_data_ptr<S>() : nullptr;
}

Strides strides(const Tensor& t, int64_t first = 0) {
  return {t.stride(first), t.stride(first + 1), t.stride(first + 2)};
}

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

// The weights [K, gates*D, C] of all directions, packed: of phase 0 and, behind it, of phase 1.
template <typename S>
struct Packed {
  Aligned<Compute<S>> values;

  // Each matrix as [inner, columns]; forward multiplies h by W_hh^T, backward dx by W_hh.
  Packed(const ScanShape& q, const S* weights, int64_t C, const Tiles<S>& tiles, int64_t first_gates,
      bool transposed, Call<S>& call) {
    const int64_t rows[2] = {first_gates * q.D, (q.gates - first_gates) * q.D};
    const int64_t row_stride = transposed ? 1 : C, column_stride = transposed ? C : 1;
    int64_t inner[2], columns[2], panels[2], sizes[2];
    for (int phase : {0, 1}) {
      inner[phase] = transposed ? C : rows[phase], columns[phase] = transposed ? rows[phase] : C;
      panels[phase] = rows[phase] ? (columns[phase] + tiles.width - 1) / tiles.width : 0;
      sizes[phase] = tiles.packed_size(inner[phase], columns[phase]);
    }
    values = Aligned<Compute<S>>(q.K * (sizes[0] + sizes[1]));
    const int64_t count = panels[0] + panels[1];
    share_out(q.K * count, [&] {
      return [&](int64_t item) {
        const int64_t k = item / count, p = item % count;
        const int phase = p >= panels[0];
        const int64_t first = (p - phase * panels[0]) * tiles.width;
        const S* matrix = weights + (k * q.gates * q.D + phase * rows[0]) * C;
        Compute<S>* packed = values.data() + phase * q.K * sizes[0] + k * sizes[phase];
        tiles.pack(matrix + first * column_stride, inner[phase],
            std::min(tiles.width, columns[phase] - first), row_stride, column_stride,
            packed + tiles.packed_size(inner[phase], first));
      };
    });
    call.packed[0] = values.data(), call.packed[1] = values.data() + q.K * sizes[0];
  }
};

template <typename S>
Call<S> make_call(const ScanShape& q, const ScanInputs& in, int64_t width) {
  return {q.P, q.N, q.K, q.D, q.plan.data(), optional_data<S>(in.cell_params), optional_data<S>(in.initial),
      optional_data<S>(in.cont), width, {}};
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
  const std::vector<Unit> work = units(q, tiles.rows, [](const Direction& d) { return d.value_segments(); });
  const int64_t count = work.size();
  parallel_units<Compute<S>>(work, sum ? count / q.K : count, scratch,
      [&](const Unit& u, Compute<S>* buffer) { tile(call, u, buffer); });
}

template <typename S>
void run_backward(const ScanShape& q, const ScanInputs& in, const std::string& variant, BackwardCall<S> call,
    S* dcell_params) {
  const Tiles<S>& tiles = choose_tiles<S>(variant);
  static_cast<Call<S>&>(call) = make_call<S>(q, in, tiles.width);
  int64_t scratch = 0, first_gates = 0;
  Cells::visit(in.cell, [&](auto c) {
    scratch = backward_scratch<decltype(c)>(q.D, tiles.width), first_gates = c.kFirstGates;
  });
  const Packed<S> packed(q, in.whh.const_data_ptr<S>(), q.D, tiles, first_gates, false, call);
  const std::vector<Unit> work =
      units(q, tiles.rows, [](const Direction& d) { return d.gradient_segments(); });
  const int64_t size = q.params * q.D;
  std::vector<Compute<S>> shares(work.size() * size), sums(q.K * size);
  call.dparams = shares.data();
  const auto tile = tiles.backward[Cells::index(in.cell)];
  parallel_units<Compute<S>>(
      work, work.size(), scratch, [&](const Unit& u, Compute<S>* buffer) { tile(call, u, buffer); });
  for (const Unit& u : work)
    for (int64_t i = 0; i < size; ++i) sums[u.k * size + i] += shares[u.index * size + i];
  std::copy(sums.begin(), sums.end(), dcell_params);
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

std::tuple<Tensor, Tensor, Tensor> scan_backward_cpu(const Tensor& dstate, const Tensor& whh,
    const OptionalTensor& cell_params, const OptionalTensor& initial, const OptionalTensor& cont,
    const Tensor& state, const Tensor& saved, std::vector<int64_t> plan, Text cell, Text variant) {
  const ScanInputs in{whh, cell_params, initial, cont, std::move(plan), std::move(cell)};
  const ScanShape q = check_scan(torch::stable::select(state, 0, 0), in);
  check_rows(dstate, q.D, "dstate");
  int64_t starts = 0;  // segments of the direction that has most
  for (const Direction& d : q.plan) starts = std::max(starts, initial ? d.gradient_segments().count : 0);
  // In the order of dstate, which is the map's or z's: their gradients are then not copied.
  const bool by_sample = dstate.stride(2) >= dstate.stride(1);
  const int64_t outer = by_sample ? q.N : q.P, inner = by_sample ? q.P : q.N;
  const Tensor rows = torch::stable::new_empty(state, {outer, inner, q.K, q.gates * q.D});
  const Tensor dz = by_sample ? torch::stable::transpose(rows, 0, 1) : rows;
  Tensor dcell_params = torch::stable::new_empty(state, {q.params ? q.K : 0, q.params, q.D});
  Tensor dstart = torch::stable::new_zeros(state, {starts, q.states, q.N, q.K, q.D});
  THO_DISPATCH_V2(state.scalar_type(), "crnn::scan_backward on cpu", AT_WRAP([&] {
    run_backward<scalar_t>(q, in, variant,
        {{}, state.const_data_ptr<scalar_t>(), saved.const_data_ptr<scalar_t>(),
            dstate.const_data_ptr<scalar_t>(), strides(dstate, 1), dstate.stride(0),
            dz.mutable_data_ptr<scalar_t>(), strides(dz),
            initial ? dstart.mutable_data_ptr<scalar_t>() : nullptr, nullptr},
        dcell_params.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  const std::vector<int64_t> segments{0};
  const Tensor dinitial = initial ? torch::stable::sum(dstart, segments)
                                  : torch::stable::new_zeros(state, {q.states, q.N, q.K, q.D});
  return {dz, dcell_params, dinitial};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("scan", TORCH_BOX(&scan_cpu));
  m.impl("scan_backward", TORCH_BOX(&scan_backward_cpu));
}

}  // namespace crnn
