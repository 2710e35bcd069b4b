// The scan of one tile (tile.h), backward. Included by tile_scan.h alone;
// includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "tile_chains.h"
#include "tile_weights.h"

namespace crnn {
namespace {

template <typename Cell, typename S, typename Product>
struct BackwardTile : Tile<Cell, S, Product, BackwardCall<S>> {
  using Base = Tile<Cell, S, Product, BackwardCall<S>>;
  using Base::c, Base::D, Base::dir, Base::kRest, Base::origin, Base::sample, Base::segment, Base::size,
      Base::u;
  using T = Compute<S>;
  // Where a chain's first step stands, from which every step lies `moved` positions, and the states before
  // it: state j at before + j * between; null for zeros.
  struct Rows {
    const S *ds, *state, *saved, *before;
    S* dz;
    int64_t between;
  } first[kTile];
  // Of a step: how far its rows lie from those of the first, in positions and in values; before: of the
  // states at the step before, where t > 0.
  struct Step {
    int64_t t, moved, ds, dz, state, saved, before;
  };
  // Whether dz is known after one pass over a row: a panel of the product is then all that the step before
  // waits for, and its channels are finished at once, in cache and beside the next panel's product.
  static constexpr bool kOnePass = kRest == 0 && !Cell::kNormalised;

  // A step's rows are asked for so many steps before: kOnePass takes those of the next beside a product.
  static constexpr int64_t kAhead = kOnePass ? 2 : 1;

  static constexpr bool carries(int state) { return Cell::kCarried >> state & 1; }

  const int64_t gates = Cell::kGates * D, columns = apart(c.padded(D)), wide = apart(gates);
  const char** const list;                      // of Lines: of two steps at the most
  T* const carry;                               // [states, count, D], without what goes through W_hh
  T* dx = carry + Cell::kStates * size;         // [count, gates]
  T* dx_before = dx + u.count * wide;           // of the step before
  T* const share = dx_before + u.count * wide;  // [count, columns]: dx times W_hh

  BackwardTile(const BackwardCall<S>& call, const Unit& unit, T* scratch)
      : Base(call, unit),
        list((const char**)scratch),
        carry(scratch + 2 * kTile * kPointer * backward_lines<Cell>(D)) {
    for (int64_t b = 0; b < u.count; ++b) {
      const int64_t n = sample[b], p = origin[b], row = c.row(p, n, u.k) * D,
                    s = segment[b] * u.segments.steps;
      first[b] = {c.dstate + p * c.ds.p + n * c.ds.n + u.k * c.ds.k, c.state + row,
          c.saved + row * Cell::kSaved, nullptr, c.dz + p * c.dzs.p + n * c.dzs.n + u.k * c.dzs.k, c.plane()};
      if (dir.value_crosses(s))
        first[b].before = c.state + c.row(dir.position(s - 1), n, u.k) * D;
      else if (c.initial)
        first[b].before = c.initial + c.initial_at(0, n, u.k), first[b].between = c.N * c.K * D;
    }
  }

  Step step(int64_t t) const {
    const int64_t moved = this->offset(t), state = c.N * c.K * D;
    return {t, moved, moved * c.ds.p, moved * c.dzs.p, moved * state, moved * state * Cell::kSaved,
        t > 0 ? this->offset(t - 1) * state : 0};
  }
  Step last() const { return step(u.segments.steps - 1); }
  T keep(int64_t b, const Step& at) const { return c.keep(origin[b] + at.moved, sample[b]); }
  const S* ds(int64_t b, const Step& at) const { return first[b].ds + at.ds; }
  const S* state(int64_t b, const Step& at) const { return first[b].state + at.state; }
  const S* saved(int64_t b, const Step& at) const { return first[b].saved + at.saved; }
  const S* before(int64_t b, const Step& at) const {
    return at.t > 0 ? first[b].state + at.before : first[b].before;
  }
  int64_t between(int64_t b, const Step& at) const { return at.t > 0 ? c.plane() : first[b].between; }
  S* dz(int64_t b, const Step& at) const { return first[b].dz + at.dz; }

  // sums: d W_hh of each phase's gates, or null; following: what the thread takes next, or null.
  void run(OuterSum<Product, S>* sums, const BackwardTile* following) {
    for (int64_t i = 0; i < Cell::kStates * size; ++i) carry[i] = 0;
    for (int64_t i = 0; i < u.count * columns; ++i) share[i] = 0;
    T later[kTile];  // keep of the step after
    Step now = last();
    Lines begun{list};
    for (int64_t t = now.t; t >= 0 && t > now.t - kAhead; --t) gather(begun, step(t));
    begun.ask();
    for (int64_t b = 0; b < u.count; ++b) later[b] = 1, begin(b, now, 1, dx, 0, D);
    for (;;) {
      if constexpr (kRest > 0) {
        this->product(1, kRest * D, D, dx + Cell::kFirstGates * D, wide, share);
        for (int64_t b = 0; b < u.count; ++b) first_phase(b, now);
      }
      if constexpr (!kOnePass)
        for (int64_t b = 0; b < u.count; ++b) {
          S* out = dz(b, now);
          for (int64_t i = 0; i < gates; ++i) out[i] = dx[b * wide + i];
        }
      if (sums) sum_products(sums, now);
      if (now.t == 0 && !c.dstart) break;
      for (int64_t b = 0; b < u.count; ++b) later[b] = keep(b, now);
      const bool more = now.t > 0;
      const Step next = more ? step(now.t - 1) : now;
      Lines lines{list};
      if (now.t >= kAhead) gather(lines, step(now.t - kAhead));
      if (now.t == 1 && following) following->gather(lines, following->last());
      this->product(
          0, Cell::kFirstGates * D, D, dx, wide, share, lines, [&](int64_t b, int64_t end, int64_t column) {
            for (; kOnePass && more && b < end; ++b)
              begin(b, next, later[b], dx_before, column, Product::kWidth);
          });
      if (!more) break;
      for (int64_t b = 0; !kOnePass && b < u.count; ++b) begin(b, next, later[b], dx, 0, D);
      if constexpr (kOnePass) {
        T* const before = dx_before;
        dx_before = dx, dx = before;
      }
      now = next;
    }
    for (int64_t b = 0; c.dstart && b < u.count; ++b) store_start(b, later[b]);
  }

  void sum_products(OuterSum<Product, S>* sums, const Step& at) const {
    for (int64_t b = 0; b < u.count; ++b)
      if (const S* h = before(b, at)) {
        sums[0].add(dx + b * wide, h, keep(b, at), nullptr);
        if constexpr (kRest > 0)
          sums[1].add(dx + b * wide + Cell::kFirstGates * D, h, keep(b, at), saved(b, at) + Cell::kReset * D);
      }
  }

  // The rows of a step.
  void gather(Lines& lines, const Step& at) const {
    for (int64_t b = 0; b < u.count; ++b) {
      const S* before = Cell::kReadsPrev ? this->before(b, at) : nullptr;
      lines.add(ds(b, at), D);
      if (Cell::kReadsState) lines.add(state(b, at), D);
      if (before) lines.add(before + (Cell::kStates - 1) * between(b, at), D);
      lines.add(dz(b, at), gates);
      lines.add(saved(b, at), Cell::kSaved * D);
    }
  }

  // dx of chain b at a step: `count` channels from `column` on, or as many as there are.
  void begin(int64_t b, const Step& at, T later, T* dx, int64_t column, int64_t count) {
    Cell::kReadsPrev != 0 && before(b, at) ? begin<true>(b, at, later, dx, column, count)
                                           : begin<false>(b, at, later, dx, column, count);
  }

  template <bool kBefore>  // whether there are states before that are read; else they count as zero
  void begin(int64_t b, const Step& at, T later, T* dx, int64_t column, int64_t count) {
    const int64_t end = column + count < D ? column + count : D;
    const S *state_row = state(b, at), *saved_row = saved(b, at), *ds_row = ds(b, at);
    const S *params = c.cell_params + u.k * Cell::kParams * D, *before = this->before(b, at);
    S* dz_row = dz(b, at);
    const T* share_row = share + b * columns;
    T *dx_row = dx + b * wide, *dparams = c.dparams + u.index * Cell::kParams * D, *carry_row = carry + b * D;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(saved_row[d]); });
      mean = norm.mean, scale = norm.scale;
    }
    const int64_t D = this->D, size = this->size, plane = c.plane(), between = this->between(b, at);
    const int64_t dstate_plane = c.dstate_plane;
    const T keep = this->keep(b, at);
#pragma GCC ivdep
    for (int64_t d = column; d < end; ++d) {
      T now[Cell::kStates], prev[Cell::kStates], saved[Cell::kSaved + 1], p[Cell::kParams + 1];
      T ds[Cell::kStates], dgate[Cell::kGates] = {}, dprev[Cell::kStates] = {}, dp[Cell::kParams + 1];
      for (int j = 0; j < Cell::kStates; ++j) {
        now[j] = state_row[j * plane + d], prev[j] = kBefore ? keep * T(before[j * between + d]) : T(0);
        T after = j ? T(0) : share_row[d];
        if (carries(j)) after += carry_row[j * size + d];
        ds[j] = later * after + T(ds_row[j * dstate_plane + d]);
      }
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = saved_row[i * D + d];
      for (int i = 0; i < Cell::kParams; ++i) p[i] = params[i * D + d];
      if constexpr (Cell::kNormalised) saved[0] = (saved[0] - mean) * scale;
      Cell::backward(Backward<T>{now, prev, saved, p, ds, dgate, dprev, dp});
      for (int i = 0; i < Cell::kGates; ++i) {
        dx_row[i * D + d] = dgate[i];
        if constexpr (kOnePass) dz_row[i * D + d] = dgate[i];
      }
      for (int j = 0; j < Cell::kStates; ++j)
        if (carries(j)) carry_row[j * size + d] = dprev[j];
      for (int i = 0; i < Cell::kParams; ++i) dparams[i * D + d] += dp[i];
    }
    if constexpr (Cell::kNormalised) through_norm(dx_row, saved_row, mean, scale);
  }

  // From d n of n = (a - mean) * scale to d a.
  void through_norm(T* dn, const S* a, T mean, T scale) const {
    const T sum = sum_of<T>(D, [&](int64_t d) { return dn[d]; });
    const T along = sum_of<T>(D, [&](int64_t d) { return dn[d] * (T(a[d]) - mean) * scale; });
    for (int64_t d = 0; d < D; ++d)
      dn[d] = scale * (dn[d] - sum / T(D) - (T(a[d]) - mean) * scale * along / T(D));
  }

  void first_phase(int64_t b, const Step& at) {
    const S *saved_row = saved(b, at), *before = this->before(b, at);
    T *dx_row = dx + b * wide, *share_row = share + b * columns, *carry_row = carry + b * D;
    const int64_t D = this->D;
    const T keep = this->keep(b, at);
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) {
      T saved[Cell::kSaved + 1], dgate[Cell::kGates];
      const T prev = before ? keep * T(before[d]) : T(0);
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = saved_row[i * D + d];
      for (int i = 0; i < Cell::kGates; ++i) dgate[i] = dx_row[i * D + d];
      Cell::backward_operand(
          Backward<T>{nullptr, &prev, saved, nullptr, nullptr, dgate, carry_row + d, nullptr}, share_row[d]);
      for (int i = 0; i < Cell::kFirstGates; ++i) dx_row[i * D + d] = dgate[i];
    }
  }

  // Only segments that start from `initial` have a share in its gradient.
  void store_start(int64_t b, T keep) const {
    if (dir.value_crosses(segment[b] * u.segments.steps)) return;
    S* out = c.dstart + segment[b] * Cell::kStates * c.N * c.K * D;
    for (int j = 0; j < Cell::kStates; ++j)
      for (int64_t d = 0; d < D; ++d) {
        const T through = j ? T(0) : share[b * columns + d];
        out[c.initial_at(j, sample[b], u.k) + d] = keep * (carry[j * size + b * D + d] + through);
      }
  }
};

// As Tiles<S>::backward.
template <typename Cell, typename S, typename Product>
void run_backward(
    const BackwardCall<S>& c, const Unit* units, int64_t count, Compute<S>* sum, Compute<S>* scratch) {
  using Chains = BackwardTile<Cell, S, Product>;
  constexpr int64_t kHeight = Product::kHeight, kWidth = Product::kWidth;
  const int64_t first = Cell::kFirstGates * c.D, rest = Chains::kRest * c.D;
  Compute<S>* const behind = scratch + chains_scratch<Cell>(c.D, kWidth);
  OuterSum<Product, S> sums[2] = {{first, c.D, sum, behind},
      {rest, c.D, sum && rest ? sum + round_up(first, kHeight) * round_up(c.D, kWidth) : nullptr,
          behind + (sum ? weights_scratch(first, c.D, kHeight, kWidth) : 0)}};
  for (const Unit* u = units; u < units + count; ++u) {
    const typename Product::Prepared prepared(u->count);
    Chains chains(c, *u, scratch);
    if (u + 1 < c.end) {
      const Chains following(c, u[1], scratch);
      chains.run(sum ? sums : nullptr, &following);
    } else {
      chains.run(sum ? sums : nullptr, nullptr);
    }
  }
  for (OuterSum<Product, S>& s : sums) s.sum();
}

}  // namespace
}  // namespace crnn
