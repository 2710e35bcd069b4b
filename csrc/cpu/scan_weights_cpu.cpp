// d W_hh on the CPU: dz^T h of all steps that continue from another, packed block by block (tile_weights.h).
//
//   work     a unit is (direction, some rows of W_hh, a share of the steps); nothing is gathered beforehand
//   order    units, and the sums inside and over them, do not depend on the number of threads: equal bits
//   cost     gates * D * D multiply-adds per position; dz is read once, h once for each kTileRows rows
//            of W_hh
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <vector>

#include "scan_cpu.h"
#include "scan_units.h"
#include "share_out.h"
#include "tile_choice.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t kTileRows = 264;    // of W_hh, at most: a multiple of every product's rows
constexpr int64_t kShareSteps = 512;  // the least (step, sample) of a share
constexpr int64_t kShares = 16;       // where W_hh has fewer tiles, each is cut into shares of the steps

// Rows first .. first + count - 1 of W_hh[k], whose product had h times the saved value `gate`, if not -1.
struct WeightsTile {
  int64_t k, first, count, gate;
};

// Of equal size as nearly as products of `height` rows allow.
std::vector<WeightsTile> weights_tiles(
    const ScanShape& q, int64_t first_gates, int64_t reset, int64_t height) {
  std::vector<WeightsTile> list;
  const int64_t ends[2] = {first_gates * q.D, q.gates * q.D};
  for (int64_t k = 0; k < q.K; ++k)
    for (int64_t phase = 0, first = 0; phase < 2; ++phase)
      for (; first < ends[phase]; first += list.back().count) {
        const int64_t left = ends[phase] - first, parts = (left + kTileRows - 1) / kTileRows;
        list.push_back({k, first, round_up((left + parts - 1) / parts, height), phase ? reset : -1});
        list.back().count = std::min(list.back().count, left);
      }
  return list;
}

template <typename S>
void run(
    const ScanShape& q, const std::string& variant, const std::string& cell, WeightsCall<S> call, S* dwhh) {
  using T = Compute<S>;
  const Tiles<S>& tiles = choose_tiles<S>(variant);
  int64_t first_gates = 0, reset = 0;
  Cells::visit(cell, [&](auto c) { first_gates = c.kFirstGates, reset = c.kReset; });
  const std::vector<WeightsTile> work = weights_tiles(q, first_gates, reset, tiles.rows);
  const int64_t steps = q.P * q.N, count = work.size();
  const int64_t shares =
      std::max<int64_t>(1, std::min(steps / kShareSteps, kShares / std::max<int64_t>(1, count)));
  int64_t rows = 0;  // of the largest tile
  for (const WeightsTile& t : work) rows = std::max(rows, round_up(t.count, tiles.rows));
  const int64_t width = round_up(q.D, tiles.width), size = rows * width;
  const Aligned<T> sums(count * shares * size);
  share_out(count * shares, [&] {
    return [&, scratch = Aligned<T>(weights_scratch(rows, q.D, tiles.rows, tiles.width))](int64_t i) {
      const WeightsTile& t = work[i / shares];
      const int64_t share = i % shares;
      T* const sum = sums.data() + i * size;
      std::fill_n(sum, size, T(0));
      tiles.weights(call,
          {t.k, t.first, t.count, t.gate, steps * share / shares, steps * (share + 1) / shares, sum},
          scratch.data());
    };
  });
  torch::stable::parallel_for(0, work.size(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      add_shares(sums.data() + i * shares * size, shares, size, work[i].count, width, q.D,
          dwhh + (work[i].k * q.gates * q.D + work[i].first) * q.D);
  });
}

}  // namespace

void scan_weights(const ScanShape& q, const ScanInputs& in, const Tensor& dz, const Tensor& state,
    const Tensor& saved, const std::string& variant, Tensor& dwhh) {
  THO_DISPATCH_V2(state.scalar_type(), "crnn::scan_whole_backward on cpu", AT_WRAP([&] {
    run<scalar_t>(q, variant, in.cell,
        {q.P, q.N, q.K, q.D, q.gates, q.plan.data(), dz.const_data_ptr<scalar_t>(),
            optional_data<scalar_t>(in.initial), optional_data<scalar_t>(in.cont),
            state.const_data_ptr<scalar_t>(), saved.const_data_ptr<scalar_t>(), strides(dz), q.saved},
        dwhh.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
}

}  // namespace crnn
