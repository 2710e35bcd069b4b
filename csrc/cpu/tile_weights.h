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

// The rows of direction u.k from (step, sample) u.begin on, those that have no h left out.
template <typename S>
struct WeightsRows {
  using T = Compute<S>;
  const WeightsCall<S>& c;
  const WeightsShare<T>& u;
  const Direction& dir;
  int64_t s, n, p = 0;
  const S* before = nullptr;  // h of sample 0 before step s; null where there is none
  int64_t between = 0;        // from a sample's h to the next one's

  WeightsRows(const WeightsCall<S>& call, const WeightsShare<T>& share)
      : c(call), u(share), dir(call.plan[share.k]), s(share.begin / call.N), n(share.begin % call.N) {
    start_step();
  }

  void start_step() {
    p = dir.position(s), between = c.K * c.D;
    if (dir.value_crosses(s))
      before = c.state + c.row(dir.position(s - 1), 0, u.k) * c.D;
    else
      before = c.initial ? c.initial + u.k * c.D : nullptr;
  }

  // Fills rows[0 .. at most kBlock - 1]; returns how many.
  int64_t next(WeightsRow<S>* rows) {
    const S *dz = c.dz + u.k * c.dzs.k + u.first,
            *gate = c.saved + (u.k * c.saved_count + (u.gate < 0 ? 0 : u.gate)) * c.D;
    int64_t count = 0;
    while (count < kBlock && s * c.N + n < u.end) {
      if (before)
        rows[count++] = {dz + p * c.dzs.p + n * c.dzs.n, before + n * between,
            u.gate < 0 ? nullptr : gate + (p * c.N + n) * c.K * c.saved_count * c.D,
            c.cont ? T(c.cont[p * c.N + n]) : T(1)};
      if (++n == c.N) {
        n = 0, ++s;
        if (s * c.N < u.end) start_step();
      }
    }
    return count;
  }
};

// packed[panel * stride + i] = at(first + i) for the kWidth columns of each panel, zeros past `columns`.
template <int64_t kWidth, typename T, typename At>
void pack_row(int64_t columns, int64_t stride, T* packed, At&& at) {
  int64_t first = 0;
  for (; first + kWidth <= columns; first += kWidth, packed += stride) {
    T row[kWidth];  // read before written: the compiler need not ask whether they overlap
    for (int64_t i = 0; i < kWidth; ++i) row[i] = at(first + i);
    for (int64_t i = 0; i < kWidth; ++i) packed[i] = row[i];
  }
  for (int64_t i = 0; first < columns && i < kWidth; ++i)
    packed[i] = first + i < columns ? at(first + i) : T(0);
}

constexpr int64_t kAhead = 4;  // rows that are asked for before they are packed: more may share a cache set

template <typename Product, typename S>
void add_share(const WeightsCall<S>& c, const WeightsShare<Compute<S>>& u, Compute<S>* scratch) {
  using T = Compute<S>;
  constexpr int64_t kWidth = Product::kWidth, kHeight = Product::kHeight;
  constexpr int64_t panel = kBlock * kWidth + kPanelGap;
  const int64_t line =
      apart(u.count + kHeight);  // of dz: what is read past the last row of W_hh goes nowhere
  const int64_t panels = (c.D + kWidth - 1) / kWidth, tiles = (u.count + kHeight - 1) / kHeight;
  T *const h = scratch, *const dz = scratch + panels * panel;
  if (u.begin == u.end) return;
  for (int64_t i = 0; i < kBlock * line; ++i) dz[i] = 0;
  WeightsRow<S> rows[kBlock];
  WeightsRows<S> walk(c, u);
  while (const int64_t count = walk.next(rows)) {
    for (int64_t r = 0; r < count; ++r) {
      const WeightsRow<S> row = rows[r];
      if (r + kAhead < count) fetch(rows[r + kAhead].dz, u.count), fetch(rows[r + kAhead].h, c.D);
      T* copy = dz + r * line;
#pragma GCC ivdep
      for (int64_t j = 0; j < u.count; ++j) copy[j] = row.dz[j];
      T* out = h + r * kWidth;
      if (row.gate)
        pack_row<kWidth>(c.D, panel, out, [&](int64_t d) { return T(row.h[d]) * row.keep * T(row.gate[d]); });
      else if (c.cont)
        pack_row<kWidth>(c.D, panel, out, [&](int64_t d) { return T(row.h[d]) * row.keep; });
      else
        pack_row<kWidth>(c.D, panel, out, [&](int64_t d) { return T(row.h[d]); });
    }
    for (int64_t p = 0; p < panels; ++p)
      for (int64_t t = 0; t < tiles; ++t)
        Product::add_outer(count, dz + t * kHeight, line, h + p * panel,
            u.out + t * kHeight * panels * kWidth + p * kWidth, panels * kWidth);
  }
}

}  // namespace
}  // namespace crnn
