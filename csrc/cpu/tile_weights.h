// A share of d W_hh (tile.h). Included by each tile_<name>.cpp after it has chosen the instruction set;
// includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "panel_product.h"
#include "tile.h"

namespace crnn {
namespace {

// A step of a sample: its dz, the h before it, and what multiplies that h.
template <typename S>
struct WeightsRow {
  const S *dz, *h, *gate;
  Compute<S> keep;
};

// The row of (step, sample) i of direction u.k; h is null where there was none.
template <typename S>
WeightsRow<S> weights_row(const WeightsCall<S>& c, const WeightsShare<Compute<S>>& u, int64_t i) {
  const Direction& dir = c.plan[u.k];
  const int64_t s = i / c.N, n = i % c.N, p = dir.position(s);
  const S* h = nullptr;
  if (dir.value_crosses(s))
    h = c.state + c.row(dir.position(s - 1), n, u.k) * c.D;
  else if (c.initial)
    h = c.initial + (n * c.K + u.k) * c.D;
  return {c.dz + p * c.dzs.p + n * c.dzs.n + u.k * c.dzs.k + u.first, h,
      u.gate < 0 ? nullptr : c.saved + (c.row(p, n, u.k) * c.saved_count + u.gate) * c.D,
      c.cont ? Compute<S>(c.cont[p * c.N + n]) : Compute<S>(1)};
}

// packed[panel][row][column] of a matrix whose values `at(row, column)` gives, zeros past `columns`.
template <int64_t kWidth, typename T, typename At>
void pack_rows(int64_t rows, int64_t columns, T* packed, At&& at) {
  for (int64_t first = 0; first < columns; first += kWidth)
    for (int64_t r = 0; r < rows; ++r, packed += kWidth) {
      if (first + kWidth <= columns)
        for (int64_t i = 0; i < kWidth; ++i) packed[i] = at(r, first + i);
      else
        for (int64_t i = 0; i < kWidth; ++i) packed[i] = first + i < columns ? at(r, first + i) : T(0);
    }
}

template <typename Product, typename S>
void add_share(const WeightsCall<S>& c, const WeightsShare<Compute<S>>& u, Compute<S>* scratch) {
  using T = Compute<S>;
  constexpr int64_t kWidth = Product::kWidth, kHeight = Product::kHeight;
  const int64_t panels = (c.D + kWidth - 1) / kWidth, tiles = (u.count + kHeight - 1) / kHeight;
  T *const h = scratch, *const dz = scratch + kBlock * panels * kWidth;
  WeightsRow<S> rows[kBlock];
  for (int64_t i = u.begin; i < u.end;) {
    int64_t count = 0;
    for (; i < u.end && count < kBlock; ++i) {
      rows[count] = weights_row(c, u, i);
      if (rows[count].h) ++count;
    }
    pack_rows<kHeight>(count, u.count, dz, [&](int64_t r, int64_t j) { return T(rows[r].dz[j]); });
    if (u.gate >= 0)
      pack_rows<kWidth>(count, c.D, h,
          [&](int64_t r, int64_t d) { return T(rows[r].h[d]) * rows[r].keep * T(rows[r].gate[d]); });
    else if (c.cont)
      pack_rows<kWidth>(count, c.D, h, [&](int64_t r, int64_t d) { return T(rows[r].h[d]) * rows[r].keep; });
    else
      pack_rows<kWidth>(count, c.D, h, [&](int64_t r, int64_t d) { return T(rows[r].h[d]); });
    for (int64_t p = 0; p < panels; ++p)
      for (int64_t t = 0; t < tiles; ++t)
        Product::add_outer(count, dz + t * count * kHeight, h + p * count * kWidth,
            u.out + t * kHeight * panels * kWidth + p * kWidth, panels * kWidth);
  }
}

}  // namespace
}  // namespace crnn
