// The scan of one tile (tile.h), backward. Included by tile_scan.h alone;
// includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "tile_chains.h"

namespace crnn {
namespace {

template <typename Cell, typename S, typename Product>
struct BackwardTile : Tile<Cell, S, Product, BackwardCall<S>> {
  using Base = Tile<Cell, S, Product, BackwardCall<S>>;
  using Base::c, Base::D, Base::dir, Base::kRest, Base::origin, Base::sample, Base::segment, Base::size,
      Base::u;
  using T = Compute<S>;
  // Where a chain's step stands, and the states before it: state j at before + j * between; null for zeros.
  struct Place {
    int64_t row;
    const S *ds, *before;
    S* dz;
    int64_t between;
    T keep;
  };
  // Whether dz is known after one pass over a row.
  static constexpr bool kOnePass = kRest == 0 && !Cell::kNormalised;

  const int64_t gates = Cell::kGates * D, columns = c.padded(D);
  T* const carry;                              // [states, count, D], without what goes through W_hh
  T* const dx = carry + Cell::kStates * size;  // [count, gates]
  T* const share = dx + u.count * gates;       // [count, columns]: dx times W_hh
  Place places[2][kTile];                      // of the current step and of the next

  BackwardTile(const BackwardCall<S>& call, const Unit& unit, T* scratch)
      : Base(call, unit), carry(scratch) {}

  Place place(int64_t b, int64_t t) const {
    const int64_t n = sample[b], p = origin[b] + this->offset(t), row = c.row(p, n, u.k);
    Place at{row, c.dstate + p * c.ds.p + n * c.ds.n + u.k * c.ds.k, nullptr,
        c.dz + c.dz_row(p, n, u.k) * gates, c.plane(), c.keep(p, n)};
    const int64_t s = segment[b] * u.segments.steps + t;
    if (dir.value_crosses(s))
      at.before = c.state + c.row(dir.position(s - 1), n, u.k) * D;
    else if (c.initial)
      at.before = c.initial + c.initial_at(0, n, u.k), at.between = c.N * c.K * D;
    return at;
  }

  void run() {
    for (int64_t i = 0; i < Cell::kStates * size; ++i) carry[i] = 0;
    for (int64_t i = 0; i < u.count * columns; ++i) share[i] = 0;
    T later[kTile];  // keep of the step after
    for (int64_t b = 0; b < u.count; ++b) later[b] = 1, places[0][b] = place(b, u.segments.steps - 1);
    for (int64_t t = u.segments.steps - 1, now = 0; t >= 0; --t, now ^= 1) {
      const Place *at = places[now], *next = places[now ^ 1];
      for (int64_t b = 0; b < u.count; ++b)
        at[b].before ? begin<true>(b, at[b], later[b]) : begin<false>(b, at[b], later[b]);
      if constexpr (kRest > 0) {
        this->product(
            1, kRest * D, D, dx + Cell::kFirstGates * D, gates, share, [](int64_t, int64_t, int64_t) {});
        for (int64_t b = 0; b < u.count; ++b) first_phase(b, at[b]);
      }
      if constexpr (!kOnePass)
        for (int64_t b = 0; b < u.count; ++b)
          for (int64_t i = 0; i < gates; ++i) at[b].dz[i] = dx[b * gates + i];
      if (t == 0 && !c.dstart) return;
      for (int64_t b = 0; b < u.count; ++b) later[b] = at[b].keep;
      if (t > 0)
        for (int64_t b = 0; b < u.count; ++b) places[now ^ 1][b] = place(b, t - 1);
      this->product(
          0, Cell::kFirstGates * D, D, dx, gates, share, [&](int64_t b, int64_t end, int64_t column) {
            for (; t > 0 && D <= kFetched && b < end; ++b) ask(next[b], column);
          });
    }
    for (int64_t b = 0; b < u.count; ++b) store_start(b, later[b]);
  }

  // A row, from `first` on as wide as a panel, before its step.
  void ask(const Place& at, int64_t first) const {
    constexpr int64_t count = Product::kWidth;
    fetch(at.ds + first, count);
    if (Cell::kReadsState) fetch(c.state + at.row * D + first, count);
    if (Cell::kReadsPrev && at.before) fetch(at.before + (Cell::kStates - 1) * at.between + first, count);
    for (int i = 0; i < Cell::kGates; ++i) fetch(at.dz + i * D + first, count);
    for (int i = 0; i < Cell::kSaved; ++i) fetch(c.saved + (at.row * Cell::kSaved + i) * D + first, count);
  }

  template <bool kBefore>  // whether there are states before; else they are zero
  void begin(int64_t b, const Place& at, T later) {
    const S *state_row = c.state + at.row * D, *saved_row = c.saved + at.row * Cell::kSaved * D;
    const S *ds_row = at.ds, *params = c.cell_params + u.k * Cell::kParams * D, *before = at.before;
    S* dz_row = at.dz;
    const T* share_row = share + b * columns;
    T *dx_row = dx + b * gates, *dparams = c.dparams + u.index * Cell::kParams * D,
      *carry_row = carry + b * D;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(saved_row[d]); });
      mean = norm.mean, scale = norm.scale;
    }
    const int64_t D = this->D, size = this->size, plane = c.plane(), between = at.between;
    const int64_t dstate_plane = c.dstate_plane;
    const T keep = at.keep;
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) {
      T now[Cell::kStates], prev[Cell::kStates], saved[Cell::kSaved + 1], p[Cell::kParams + 1];
      T ds[Cell::kStates], dgate[Cell::kGates] = {}, dprev[Cell::kStates] = {}, dp[Cell::kParams + 1];
      for (int j = 0; j < Cell::kStates; ++j) {
        now[j] = state_row[j * plane + d], prev[j] = kBefore ? keep * T(before[j * between + d]) : T(0);
        const T carried = j ? carry_row[j * size + d] : carry_row[d] + share_row[d];
        ds[j] = later * carried + T(ds_row[j * dstate_plane + d]);
      }
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = saved_row[i * D + d];
      for (int i = 0; i < Cell::kParams; ++i) p[i] = params[i * D + d];
      if constexpr (Cell::kNormalised) saved[0] = (saved[0] - mean) * scale;
      Cell::backward(Backward<T>{now, prev, saved, p, ds, dgate, dprev, dp});
      for (int i = 0; i < Cell::kGates; ++i) {
        dx_row[i * D + d] = dgate[i];
        if constexpr (kOnePass) dz_row[i * D + d] = dgate[i];
      }
      for (int j = 0; j < Cell::kStates; ++j) carry_row[j * size + d] = dprev[j];
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

  void first_phase(int64_t b, const Place& at) {
    const S *saved_row = c.saved + at.row * Cell::kSaved * D, *before = at.before;
    T *dx_row = dx + b * gates, *share_row = share + b * columns, *carry_row = carry + b * D;
    const int64_t D = this->D;
    const T keep = at.keep;
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

}  // namespace
}  // namespace crnn
