// How a scan's work is cut, and its weights packed: what forward and backward share.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <string>
#include <vector>

#include "../core/scan.h"
#include "share_out.h"
#include "tile.h"

namespace crnn {

constexpr int64_t kUnits = 8;      // smaller tiles rather than fewer units: work for some threads
constexpr int64_t kPerThread = 2;  // units that a thread should have at the least
constexpr int64_t kNarrow = 128;   // channels of which half a tile leaves the first cache room for W_hh

// Units first .. end - 1, which one thread takes one after the other.
struct Group {
  int64_t first, end;
};

// Chains of a tile, at the most.
inline int64_t most_chains(const ScanShape& q, int64_t rows) {
  return q.D <= kNarrow && rows <= kTile / 2 ? kTile / 2 : kTile;
}

// Chains first .. first + count - 1 of direction k as `tiles` units.
inline void add_units(
    std::vector<Unit>& list, int64_t k, Segments segments, int64_t first, int64_t count, int64_t tiles) {
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = count * t / tiles, end = count * (t + 1) / tiles;
    list.push_back({int64_t(list.size()), k, first + begin, end - begin, segments});
  }
}

// Tiles of kTile chains, or half of it; of fewer, but not below a product's `rows`, where there would be too
// few units: how many that are may depend on the threads unless a sum goes over a unit's chains (`fixed`).
template <typename SegmentsOf>
std::vector<Unit> units(const ScanShape& q, int64_t rows, bool fixed, SegmentsOf&& segments_of) {
  const int64_t wanted = fixed ? kUnits : kPerThread * torch::stable::get_num_threads();
  const int64_t most = most_chains(q, rows);
  std::vector<Unit> list;
  for (int64_t k = 0; k < q.K; ++k) {
    const Segments segments = segments_of(q.plan[k]);
    const int64_t chains = segments.count * q.N, few = std::min((chains + rows - 1) / rows, wanted / q.K);
    add_units(list, k, segments, 0, chains, std::max((chains + most - 1) / most, few));
  }
  return list;
}

template <typename S>
const S* optional_data(const std::optional<Tensor>& t) {
  return t ? t->const_data_ptr<S>() : nullptr;
}

inline Strides strides(const Tensor& t, int64_t first = 0) {
  return {t.stride(first), t.stride(first + 1), t.stride(first + 2)};
}

// W_hh of all directions, packed: of phase 0 and, behind it, of phase 1.
template <typename S>
struct Packed {
  Aligned<Compute<S>> values;

  // Each phase's matrix as [inner, columns]: backward multiplies dx by W_hh [rows, D]; forward h by W_hh^T
  // and, with w_ih [K or 1, gates*D, C], the x behind each h by W_ih^T.
  Packed(const ScanShape& q, const Tensor& whh, const std::optional<Tensor>& w_ih, bool transposed,
      const Tiles<S>& tiles, int64_t first_gates, Call<S>& call) {
    const int64_t C = w_ih ? w_ih->size(2) : 0, w_ih_stride = w_ih && w_ih->size(0) > 1 ? w_ih->stride(0) : 0;
    const S *const hh = whh.const_data_ptr<S>(), *const ih = optional_data<S>(w_ih);
    const int64_t rows[2] = {first_gates * q.D, (q.gates - first_gates) * q.D};
    int64_t columns[2], panels[2], sizes[2];
    for (int phase : {0, 1}) {
      columns[phase] = transposed ? rows[phase] : q.D;
      panels[phase] = rows[phase] ? (columns[phase] + tiles.width - 1) / tiles.width : 0;
      sizes[phase] = tiles.packed_size(transposed ? q.D + C : rows[phase], columns[phase]);
    }
    values = Aligned<Compute<S>>(q.K * (sizes[0] + sizes[1]));
    const int64_t count = panels[0] + panels[1];
    share_out(q.K * count, [&] {
      return [&](int64_t item) {
        const int64_t k = item / count, p = item % count;
        const int phase = p >= panels[0];
        const int64_t panel = p - phase * panels[0], first = panel * tiles.width;
        const auto matrix = [&](const S* weights, int64_t width) {  // of weights [gates*D, width]
          const S* const values = weights + phase * rows[0] * width;
          const Matrix<S> m =
              transposed ? Matrix<S>{values, width, 1, width} : Matrix<S>{values, rows[phase], width, 1};
          return m.from_column(first);
        };
        tiles.pack(matrix(hh + k * q.gates * q.D * q.D, q.D),
            ih ? matrix(ih + k * w_ih_stride, C) : Matrix<S>{}, std::min(tiles.width, columns[phase] - first),
            values.data() + phase * q.K * sizes[0] + k * sizes[phase] +
                panel * (sizes[phase] / panels[phase]));
      };
    });
    call.packed[0] = values.data(), call.packed[1] = values.data() + q.K * sizes[0];
  }
};

template <typename S>
Call<S> make_call(const ScanShape& q, const ScanInputs& in, int64_t width) {
  return {q.P, q.N, q.K, q.D, q.plan.data(), optional_data<S>(in.cell_params), optional_data<S>(in.initial),
      optional_data<S>(in.cont), width, false, {}};
}

}  // namespace crnn
