// The scan of one tile (tile.h), forward. Included by tile_scan.h alone;
// includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "tile_chains.h"

namespace crnn {
namespace {

template <typename Cell, typename S, typename Product>
struct ForwardTile : Tile<Cell, S, Product, ForwardCall<S>> {
  using Base = Tile<Cell, S, Product, ForwardCall<S>>;
  using Base::c, Base::D, Base::kRest, Base::origin, Base::sample, Base::size, Base::u;
  using T = Compute<S>;
  const int64_t columns[2] = {c.padded(Cell::kFirstGates * D), c.padded(kRest * D)};
  const int64_t inner = D + c.C, wide = u.count * inner;  // of what W_hh multiplies: h, and x behind it
  int64_t moved = 0, coming = 0;                          // the offsets of the current step and of the next
  T* const before;                                        // [states, count, inner]
  T* const operand = before + Cell::kStates * wide;       // [count, inner] of phase 1
  T* const kept = operand + (kRest ? wide : 0);           // [saved, count, D], between the phases
  T* const rec[2] = {kept + Cell::kSaved * size,          // [count, columns] of each phase
      kept + Cell::kSaved * size + u.count * columns[0]};
  S* const unkept = (S*)(rec[1] + u.count * columns[1]);  // [states + saved, D] of one chain, if for y alone

  ForwardTile(const ForwardCall<S>& call, const Unit& unit, T* scratch) : Base(call, unit), before(scratch) {}

  void run() {
    for (int64_t i = 0; i < Cell::kStates * wide; ++i) before[i] = 0;
    for (int64_t i = 0; i < u.count * (columns[0] + columns[1]); ++i) rec[0][i] = 0;
    if (c.initial)
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t b = 0; b < u.count; ++b)
          for (int64_t d = 0; d < D; ++d)
            before[j * wide + b * inner + d] = c.initial[c.initial_at(j, sample[b], u.k) + d];
    for (int64_t t = 0; t < u.segments.steps; ++t) {
      moved = this->offset(t), coming = t + 1 < u.segments.steps ? this->offset(t + 1) : moved;
      if (c.cont) apply_cont();
      if (c.C) take_x();
      const bool any = t > 0 || c.initial || c.C;  // else all that is multiplied is 0
      if (any)
        this->product(0, inner, Cell::kFirstGates * D, before, inner, rec[0],
            [&](int64_t b, int64_t end, int64_t column) { ask(b, end, column); });
      if constexpr (kRest > 0) {
        for (int64_t b = 0; b < u.count; ++b) first_phase(b);
        if (any) this->product(1, inner, kRest * D, operand, inner, rec[1], [](int64_t, int64_t, int64_t) {});
      }
      for (int64_t b = 0; b < u.count; ++b) {
        finish(b);
        if (c.y) add_to_sum(b);
      }
    }
  }

  int64_t position(int64_t b) const { return origin[b] + moved; }
  int64_t row(int64_t b) const { return c.row(position(b), sample[b], u.k); }
  const S* input(int64_t b) const { return c.z + position(b) * c.zs.p + sample[b] * c.zs.n + u.k * c.zs.k; }
  S* summed(int64_t b) const { return c.y + (sample[b] * c.P + position(b)) * D; }
  const S* x(int64_t b, int64_t offset) const {
    return c.x + (origin[b] + offset) * c.xs.p + sample[b] * c.xs.n;
  }

  void take_x() {
    for (int64_t b = 0; b < u.count; ++b) {
      const S* from = x(b, moved);
      T *row = before + b * inner + D, *operand_row = operand + b * inner + D;
#pragma GCC ivdep
      for (int64_t i = 0; i < c.C; ++i) row[i] = from[i];
      if constexpr (kRest > 0)
        for (int64_t i = 0; i < c.C; ++i) operand_row[i] = row[i];
    }
  }

  // The step's rows of chains b .. end - 1, as wide as a panel, and those of x for the next, while W_hh
  // multiplies.
  void ask(int64_t b, int64_t end, int64_t column) const {
    for (; D <= kFetched && b < end; ++b) {
      if (column < c.C) fetch(x(b, coming) + column, Product::kWidth);
      if (!c.C) fetch(input(b) + column, Product::kWidth);
      if (column < D) fetch(c.y ? summed(b) + column : c.state + row(b) * D + column, Product::kWidth);
      if (!c.y && column < Cell::kSaved * D)
        fetch(c.saved + row(b) * Cell::kSaved * D + column, Product::kWidth);
    }
  }

  void add_to_sum(int64_t b) {
    S* y = summed(b);
    const int64_t D = this->D;
    const bool first = u.k == 0, last = u.k == c.K - 1;
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) y[d] = first ? unkept[d] : S(T(y[d]) + T(unkept[d]));
    for (int64_t d = 0; last && c.scale != 1 && d < D; ++d) y[d] = S(T(y[d]) * c.scale);
  }

  void apply_cont() {
    for (int64_t b = 0; b < u.count; ++b) {
      const T keep = c.keep(position(b), sample[b]);
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t d = 0; d < D; ++d) before[j * wide + b * inner + d] *= keep;
    }
  }

  void first_phase(int64_t b) {
    const S* in = input(b);
    const T *rec_row = rec[0] + b * columns[0], *before_row = before + b * inner;
    T *kept_row = kept + b * D, *operand_row = operand + b * inner;
    const int64_t D = this->D, size = this->size;
#pragma GCC ivdep  // the rows are of different buffers
    for (int64_t d = 0; d < D; ++d) {
      T x[Cell::kGates], r[Cell::kGates], saved[Cell::kSaved + 1] = {};
      for (int g = 0; g < Cell::kFirstGates; ++g) x[g] = in[g * D + d], r[g] = rec_row[g * D + d];
      const T prev = before_row[d];
      operand_row[d] = Cell::operand(Forward<T>{x, r, &prev, nullptr, nullptr, saved});
      for (int i = 0; i < Cell::kSaved; ++i) kept_row[i * size + d] = saved[i];
    }
  }

  // The gates of a row, in place of their recurrent part. Gate by gate, as all in one chain of dependent
  // instructions per channel leave the processor waiting.
  template <int g>
  void open_gates(int64_t b, const S* in) {
    const int64_t D = this->D;
    T* gate = rec[0] + b * columns[0] + g * D;
    const S* x = in + g * D;
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) gate[d] = Cell::gate(g, T(x[d]) + gate[d]);
    if constexpr (g + 1 < Cell::kGates) open_gates<g + 1>(b, in);
  }

  void finish(int64_t b) {
    const S *in = input(b), *params = c.cell_params + u.k * Cell::kParams * D;
    const int64_t at = row(b);
    S* state_row = c.y ? unkept : c.state + at * D;
    S* saved_row = c.y ? unkept + Cell::kStates * D : c.saved + at * Cell::kSaved * D;
    const T *rec0 = rec[0] + b * columns[0], *rec1 = rec[1] + b * columns[1], *kept_row = kept + b * D;
    T* before_row = before + b * inner;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(in[d]) + rec0[d]; });
      mean = norm.mean, scale = norm.scale;
    }
    if constexpr (Cell::kGatesApart) open_gates<0>(b, in);
    const int64_t D = this->D, size = this->size, wide = this->wide;
    const int64_t plane = c.y ? D : c.plane();
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) {
      T x[Cell::kGates], r[Cell::kGates], prev[Cell::kStates], p[Cell::kParams + 1], now[Cell::kStates];
      T saved[Cell::kSaved + 1];
      for (int g = 0; g < Cell::kGates; ++g) {
        x[g] = in[g * D + d];
        r[g] = g < Cell::kFirstGates ? rec0[g * D + d] : rec1[(g - Cell::kFirstGates) * D + d];
      }
      for (int j = 0; j < Cell::kStates; ++j) prev[j] = before_row[j * wide + d];
      for (int i = 0; i < Cell::kParams; ++i) p[i] = params[i * D + d];
      if constexpr (kRest > 0)
        for (int i = 0; i < Cell::kSaved; ++i) saved[i] = kept_row[i * size + d];
      if constexpr (Cell::kNormalised) saved[0] = x[0] + r[0], x[0] = (saved[0] - mean) * scale, r[0] = 0;
      if constexpr (Cell::kGatesApart) {
        for (int g = 0; g < Cell::kGates; ++g) saved[g] = r[g];
        Cell::finish(Forward<T>{x, r, prev, p, now, saved});
      } else {
        Cell::forward(Forward<T>{x, r, prev, p, now, saved});
      }
      for (int j = 0; j < Cell::kStates; ++j)
        state_row[j * plane + d] = now[j], before_row[j * wide + d] = now[j];
      for (int i = 0; i < Cell::kSaved; ++i) saved_row[i * D + d] = saved[i];
    }
  }
};

}  // namespace
}  // namespace crnn
