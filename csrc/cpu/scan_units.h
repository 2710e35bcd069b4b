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

// Tiles of kTile chains, or half of it; of fewer, but not below a product's `rows`, where there would be too
// few units: how many that are may depend on the threads unless a sum goes over a unit's chains (`fixed`).
template <typename SegmentsOf>
std::vector<Unit> units(const ScanShape& q, int64_t rows, bool fixed, SegmentsOf&& segments_of) {
  const int64_t wanted = fixed ? kUnits : kPerThread * torch::stable::get_num_threads();
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
const S* optional_data(const std::optional<Tensor>& t) {
  return t ? t->const_data_ptr<S>() : nullptr;
}

inline Strides strides(const Tensor& t, int64_t first = 0) {
  return {t.stride(first), t.stride(first + 1), t.stride(first + 2)};
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

}  // namespace crnn
