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

// A sum of outer products, d W_hh: out [count, padded; D, padded] += dz^T h over the rows that are added,
// which are packed block by block.
template <typename Product, typename S>
struct OuterSum {
  using T = Compute<S>;
  static constexpr int64_t kWidth = Product::kWidth, kHeight = Product::kHeight;
  static constexpr int64_t kPanel = kBlock * kWidth + kPanelGap;
  const int64_t count, D;
  const int64_t line = apart(count + kHeight);  // what is read past the last row of W_hh goes nowhere
  const int64_t panels = (D + kWidth - 1) / kWidth, tiles = (count + kHeight - 1) / kHeight;
  T *const h, *const dz, *const out;
  const char** const list = (const char**)(dz + kBlock * line);  // of Lines
  int64_t rows = 0;                                              // packed, not yet summed

  // Without `out` nothing may be added.
  OuterSum(int64_t count, int64_t D, T* out, T* scratch)
      : count(count), D(D), h(scratch), dz(scratch + panels * kPanel), out(out) {
    for (int64_t i = 0; out && i < kBlock * line; ++i) dz[i] = 0;
  }

  template <typename Dz>
  void add(const Dz* dz_row, const S* h_row, T keep, const S* gate) {
    if (rows == kBlock) sum();
    T *copy = dz + rows * line, *packed = h + rows * kWidth;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) copy[j] = dz_row[j];
    if (gate)
      pack_row<kWidth>(D, kPanel, packed, [&](int64_t d) { return T(h_row[d]) * keep * T(gate[d]); });
    else if (keep != 1)
      pack_row<kWidth>(D, kPanel, packed, [&](int64_t d) { return T(h_row[d]) * keep; });
    else
      pack_row<kWidth>(D, kPanel, packed, [&](int64_t d) { return T(h_row[d]); });
    ++rows;
  }

  // lines: what is asked for meanwhile.
  __attribute__((noinline)) void sum(const Lines& lines = {}) {
    Pace pace(lines, panels * tiles * rows);
    for (int64_t p = 0; p < panels && rows > 0; ++p)
      for (int64_t t = 0; t < tiles; ++t)
        Product::add_outer(rows, dz + t * kHeight, line, h + p * kPanel, pace,
            out + t * kHeight * panels * kWidth + p * kWidth, panels * kWidth);
    rows = 0;
  }
};

template <typename Product, typename S>
void add_share(const WeightsCall<S>& c, const WeightsShare<Compute<S>>& u, Compute<S>* scratch) {
  if (u.begin == u.end) return;
  OuterSum<Product, S> outer(u.count, c.D, u.out, scratch);
  WeightsRow<S> blocks[2][kBlock], *rows = blocks[0], *next = blocks[1];
  WeightsRows<S> walk(c, u);
  const auto gather = [&](const WeightsRow<S>* rows, int64_t count) {
    Lines lines{outer.list};
    for (int64_t r = 0; r < count; ++r) lines.add(rows[r].dz, u.count), lines.add(rows[r].h, c.D);
    return lines;
  };
  int64_t count = walk.next(rows);
  for (gather(rows, count).ask(); count > 0;) {
    for (int64_t r = 0; r < count; ++r) outer.add(rows[r].dz, rows[r].h, rows[r].keep, rows[r].gate);
    count = walk.next(next);
    outer.sum(gather(next, count));
    WeightsRow<S>* const packed = rows;
    rows = next, next = packed;
  }
}

}  // namespace
}  // namespace crnn
