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

constexpr int64_t kNear = 1 << 20;  // bytes, at most, of a part's sum that stays in the second cache

// Each part of a sum, direction after direction; without a sum each unit is alone.
std::vector<Group> groups(const ScanShape& q, int64_t rows, const Sum* sum, std::vector<Unit>& work) {
  const auto segments_of = [](const Direction& d) { return d.value_segments(); };
  std::vector<Group> list;
  if (!sum) {
    work = units(q, rows, false, segments_of);
    for (int64_t u = 0; u < int64_t(work.size()); ++u) list.push_back({u, u + 1});
    return list;
  }
  const auto [parts, cuts, by_sample] = sum->parts;
  const int64_t most = most_chains(q, rows);
  for (int64_t part = 0, first = 0; part < parts; ++part, first = work.size()) {
    for (int64_t k = 0; k < q.K; ++k) {
      const Segments segments = segments_of(q.plan[k]);
      const int64_t piece = segments.count * q.N / cuts, begin = cuts * part / parts * piece,
                    end = cuts * (part + 1) / parts * piece;
      add_units(work, k, segments, begin, end - begin, (end - begin + most - 1) / most);
    }
    list.push_back({first, int64_t(work.size())});
  }
  return list;
}

template <typename S>
void run_forward(const ScanShape& given, const ScanInputs& in, const std::string& variant, const Added& added,
    Tensor& state, Tensor& saved, bool states, const Sum* sum) {
  ScanShape q = given;
  if (sum)  // the chains of all directions in one order
    for (Direction& d : q.plan) d = d.lines_sorted();
  const Tiles<S>& tiles = choose_tiles<S>(variant);
  const auto& [z, zs, x, w_ih] = added;
  const int64_t C = w_ih ? w_ih->size(2) : 0;
  ForwardCall<S> call{make_call<S>(q, in, tiles.width), z.const_data_ptr<S>(), optional_data<S>(x), zs,
      x ? Strides{x->stride(0), x->stride(1), 0} : Strides{}, C,
      states ? state.mutable_data_ptr<S>() : nullptr, states ? saved.mutable_data_ptr<S>() : nullptr,
      sum ? sum->y.mutable_data_ptr<S>() : nullptr, Compute<S>(sum ? sum->scale : 1)};
  call.by_sample = sum && sum->parts.by_sample;
  int64_t scratch = 0, first_gates = 0;
  Cells::visit(in.cell, [&](auto c) {
    scratch = forward_scratch<decltype(c)>(q.D, C, tiles.width), first_gates = c.kFirstGates;
  });
  const Packed<S> packed(q, in.whh, w_ih, true, tiles, first_gates, call);
  const auto tile = tiles.forward[Cells::index(in.cell)];
  std::vector<Unit> work;
  const std::vector<Group> list = groups(q, tiles.rows, sum, work);
  share_out(list.size(), [&] {
    return [&, buffer = Aligned<Compute<S>>(scratch)](int64_t g) {
      for (int64_t u = list[g].first; u < list[g].end; ++u) tile(call, work[u], buffer.data());
    };
  });
}

}  // namespace

Parts parts_of_sum(const ScanShape& q, const Tensor& like, bool states) {
  const ScalarType type = like.scalar_type();
  if (type != ScalarType::Float && type != ScalarType::Double) return {};  // a sum is rounded once
  const Direction first = q.plan[0].lines_sorted();
  bool by_sample = false;
  int64_t chains = first.value_segments().count * q.N;
  for (const Direction& d : q.plan) {
    by_sample |= !first.same_segments(d.lines_sorted());
    chains = std::min(chains, d.value_segments().count * q.N);
  }
  const int64_t threads = torch::stable::get_num_threads(), most = most_chains(q, kTile / 2);
  const int64_t cuts = by_sample ? q.N : chains,
                parts = std::min(cuts, round_up((chains + most - 1) / most, threads));
  if (parts == 0 || 2 * chains < most * parts) return {};
  const int64_t largest = (cuts + parts - 1) / parts, slowest = (parts + threads - 1) / threads * largest;
  const bool idle = slowest * threads * 9 > cuts * 10;  // more than a tenth of the time
  const int64_t bytes = q.N * q.P / cuts * largest * q.D * (type == ScalarType::Float ? 4 : 8);
  return idle || (states && bytes > kNear) ? Parts{} : Parts{parts, cuts, by_sample};
}

std::tuple<Tensor, Tensor> scan_forward(const ScanShape& q, const ScanInputs& in, const Added& added,
    const std::string& variant, bool states, const Sum* sum) {
  const Tensor& z = added.z;
  const int64_t kept = states ? q.P : 0;
  Tensor state = torch::stable::new_empty(z, {q.states, kept, q.N, q.K, q.D});
  Tensor saved = torch::stable::new_empty(z, {kept, q.N, q.K, q.saved, q.D});
  THO_DISPATCH_V2(z.scalar_type(), "crnn::scan on cpu",
      AT_WRAP([&] { run_forward<scalar_t>(q, in, variant, added, state, saved, states, sum); }),
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
