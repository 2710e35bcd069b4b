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
  // Whether a panel of the product is all that the states of its channels wait for: these are then finished
  // at once, in cache and beside the next panel's product.
  static constexpr bool kByPanel = Cell::kGates == 1 && !Cell::kNormalised;

  const int64_t columns[2] = {apart(c.padded(Cell::kFirstGates * D)), kRest ? apart(c.padded(kRest * D)) : 0};
  const int64_t inner = D + c.C, lda = apart(inner),
                wide = u.count * lda;             // of what W_hh multiplies: h, and x behind it
  int64_t moved = 0, coming = 0;                  // the offsets of the current step and of the next
  const char** const list;                        // of Lines
  T* before;                                      // [states, count, inner]
  T* operand = before + Cell::kStates * wide;     // [count, inner] of phase 1, or the h to come
  T* const kept = operand + wide;                 // [saved, count, D], between the phases
  T* const rec[2] = {kept + Cell::kSaved * size,  // [count, columns] of each phase
      kept + Cell::kSaved * size + u.count * columns[0]};
  S* const unkept = (S*)(rec[1] + u.count * columns[1]);  // [states + saved, D] of one chain, if for y alone
  // Where a chain's first step stands; every step lies `moved` positions from there.
  struct Rows {
    const S *z, *x;
    S *state, *saved, *y;
  } first[kTile];

  ForwardTile(const ForwardCall<S>& call, const Unit& unit, T* scratch)
      : Base(call, unit),
        list((const char**)scratch),
        before(scratch + kTile * kPointer * forward_lines<Cell>(D, c.C)) {
    for (int64_t b = 0; b < u.count; ++b) {
      const int64_t p = origin[b], n = sample[b], row = c.row(p, n, u.k) * D;
      first[b] = {c.z + p * c.zs.p + n * c.zs.n + u.k * c.zs.k, nullptr, nullptr, nullptr, nullptr};
      if (c.C) first[b].x = c.x + p * c.xs.p + n * c.xs.n;
      if (c.state) first[b].state = c.state + row, first[b].saved = c.saved + row * Cell::kSaved;
      if (c.y) first[b].y = c.y + (n * c.P + p) * D;
    }
  }

  void run() {
    for (int64_t i = 0; i < Cell::kStates * wide; ++i) before[i] = 0;
    for (int64_t i = 0; i < u.count * (columns[0] + columns[1]); ++i) rec[0][i] = 0;
    if (c.initial)
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t b = 0; b < u.count; ++b)
          for (int64_t d = 0; d < D; ++d)
            before[j * wide + b * lda + d] = c.initial[c.initial_at(j, sample[b], u.k) + d];
    Lines begun{list};
    gather(begun, moved);
    begun.ask();
    for (int64_t t = 0; t < u.segments.steps; ++t) {
      moved = this->offset(t), coming = t + 1 < u.segments.steps ? this->offset(t + 1) : moved;
      if (c.cont) apply_cont();
      if (c.C) take_x();
      const bool any = t > 0 || c.initial || c.C;  // else all that is multiplied is 0
      Lines lines{list};
      gather(lines, coming);
      if (!any)
        lines.ask();
      else
        this->product(0, inner, Cell::kFirstGates * D, before, lda, rec[0], lines,
            [&](int64_t b, int64_t end, int64_t column) {
              for (; kByPanel && b < end; ++b) finish(b, column, Product::kWidth);
            });
      if constexpr (kRest > 0) {
        for (int64_t b = 0; b < u.count; ++b) first_phase(b);
        if (any) this->product(1, inner, kRest * D, operand, lda, rec[1]);
      }
      for (int64_t b = 0; !(kByPanel && any) && b < u.count; ++b) finish(b, 0, D);
      if constexpr (kByPanel) {
        T* const now = operand;
        operand = before, before = now;
      }
    }
  }

  const S* x(int64_t b, int64_t moved) const { return first[b].x + moved * c.xs.p; }
  const S* input(int64_t b, int64_t moved) const { return first[b].z + moved * c.zs.p; }
  S* state(int64_t b, int64_t moved) const { return first[b].state + moved * (c.N * c.K * D); }
  S* saved(int64_t b, int64_t moved) const { return first[b].saved + moved * (c.N * c.K * D * Cell::kSaved); }
  S* summed(int64_t b, int64_t moved) const { return first[b].y + moved * D; }

  void take_x() {
    for (int64_t b = 0; b < u.count; ++b) {
      const S* from = x(b, moved);
      T *row = before + b * lda + D, *operand_row = operand + b * lda + D;
#pragma GCC ivdep
      for (int64_t i = 0; i < c.C; ++i) row[i] = from[i];
      if constexpr (kRest > 0)
        for (int64_t i = 0; i < c.C; ++i) operand_row[i] = row[i];
    }
  }

  // The rows of a step.
  void gather(Lines& lines, int64_t moved) const {
    for (int64_t b = 0; b < u.count; ++b) {
      c.C ? lines.add(x(b, moved), c.C) : lines.add(input(b, moved), Cell::kGates * D);
      if (c.state) lines.add(state(b, moved), D), lines.add(saved(b, moved), Cell::kSaved * D);
      if (c.y) lines.add(summed(b, moved), D);
    }
  }

  void add_to_sum(int64_t b, const S* h, int64_t begin, int64_t end) {
    S* y = summed(b, moved);
    const bool first = u.k == 0, last = u.k == c.K - 1;
#pragma GCC ivdep
    for (int64_t d = begin; d < end; ++d) y[d] = first ? h[d] : S(T(y[d]) + T(h[d]));
    for (int64_t d = begin; last && c.scale != 1 && d < end; ++d) y[d] = S(T(y[d]) * c.scale);
  }

  void apply_cont() {
    for (int64_t b = 0; b < u.count; ++b) {
      const T keep = c.keep(origin[b] + moved, sample[b]);
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t d = 0; d < D; ++d) before[j * wide + b * lda + d] *= keep;
    }
  }

  void first_phase(int64_t b) {
    const S* in = input(b, moved);
    const T *rec_row = rec[0] + b * columns[0], *before_row = before + b * lda;
    T *kept_row = kept + b * D, *operand_row = operand + b * lda;
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

  // The step's states of chain b: `count` channels from `begin` on, or as many as there are.
  void finish(int64_t b, int64_t begin, int64_t count) {
    const int64_t end = begin + count < D ? begin + count : D;
    const S *in = input(b, moved), *params = c.cell_params + u.k * Cell::kParams * D;
    S* state_row = c.state ? state(b, moved) : unkept;
    S* saved_row = c.state ? saved(b, moved) : unkept + Cell::kStates * D;
    const T *rec0 = rec[0] + b * columns[0], *rec1 = rec[1] + b * columns[1], *kept_row = kept + b * D;
    const T* before_row = before + b * lda;
    T* now_row = (kByPanel ? operand : before) + b * lda;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(in[d]) + rec0[d]; });
      mean = norm.mean, scale = norm.scale;
    }
    if constexpr (Cell::kGatesApart) open_gates<0>(b, in);
    const int64_t D = this->D, size = this->size, wide = this->wide;
    const int64_t plane = c.state ? c.plane() : D;
#pragma GCC ivdep
    for (int64_t d = begin; d < end; ++d) {
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
        state_row[j * plane + d] = now[j], now_row[j * wide + d] = now[j];
      for (int i = 0; i < Cell::kSaved; ++i) saved_row[i * D + d] = saved[i];
    }
    if (c.y) add_to_sum(b, state_row, begin, end);
  }
};

}  // namespace
}  // namespace crnn
