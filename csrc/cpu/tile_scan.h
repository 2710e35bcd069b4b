// The scan of one tile (tile.h), forward and backward. Included by each tile_<name>.cpp after it has chosen
// the instruction set; includes nothing of the standard library: an inline function compiled here for a newer
// processor must not be the copy that the linker keeps for all.
#pragma once

#include "panel_product.h"
#include "tile.h"
#include "tile_weights.h"

namespace crnn {
namespace {

constexpr int64_t kFetched =
    512;  // channels; wider rows would be gone from the first cache when they are needed

// The sum of a(0) .. a(D - 1), by a vector of partial sums: one after the other they would wait for each
// other.
template <typename T, typename Row>
T sum_of(int64_t D, Row&& a) {
  constexpr int64_t kLanes = 64 / sizeof(T);
  T part[kLanes] = {}, sum = 0;
  int64_t d = 0;
  for (; d + kLanes <= D; d += kLanes)
    for (int64_t i = 0; i < kLanes; ++i) part[i] += a(d + i);
  for (int64_t i = 0; d + i < D; ++i) part[i] += a(d + i);
  for (int64_t i = 0; i < kLanes; ++i) sum += part[i];
  return sum;
}

// Mean and 1 / sqrt(variance + eps) of a row.
template <typename T>
struct Normaliser {
  T mean = 0, scale = 0;
  template <typename Row>
  Normaliser(int64_t D, Row&& a) {
    mean = sum_of<T>(D, a) / T(D);
    const T squares = sum_of<T>(D, [&](int64_t d) { return (a(d) - mean) * (a(d) - mean); });
    scale = T(1) / T(__builtin_sqrt(squares / T(D) + T(kLnEps)));
  }
};

// What forward and backward share: where a chain is, and the product with W_hh.
template <typename Cell, typename S, typename Product, typename Call>
struct Tile {
  using T = Compute<S>;
  static constexpr int kRest = Cell::kGates - Cell::kFirstGates;  // gates of phase 1
  const Call& c;
  const Unit& u;
  const Direction& dir;
  const int64_t D, size;  // size: of one state of all chains
  // Of each chain: its sample, its segment, the position of its first step.
  int64_t sample[kTile], segment[kTile], origin[kTile];

  Tile(const Call& call, const Unit& unit)
      : c(call), u(unit), dir(call.plan[unit.k]), D(call.D), size(unit.count * call.D) {
    for (int64_t b = 0; b < u.count; ++b) {
      sample[b] = (u.first + b) % c.N, segment[b] = (u.first + b) / c.N;
      origin[b] = dir.position(segment[b] * u.segments.steps);
    }
  }

  // How far step t lies from the first: the same for all chains, as segments consist of whole lines.
  int64_t offset(int64_t t) const { return dir.position(t) - dir.origin; }

  // out [count, padded(columns)] = a [count, inner] (row stride lda) times the packed matrix of the phase.
  // meanwhile: as of Product::product.
  template <typename Meanwhile>
  void product(int phase, int64_t inner, int64_t columns, const T* a, int64_t lda, T* out,
      Meanwhile&& meanwhile) const {
    const int64_t width = c.padded(columns);
    const T* packed = c.packed[phase] + u.k * Product::packed_size(inner, columns);
    Product::product(u.count, inner, a, lda, packed, width / Product::kWidth, out, width, meanwhile);
  }
};

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

// The table that tile.h declares.
template <typename S, typename Product, typename... Cell>
constexpr Tiles<S> tiles_of(const char* name, CellList<Cell...>) {
  return {name, Product::kWidth, Product::kHeight,
      {+[](const ForwardCall<S>& c, const Unit& u, Compute<S>* scratch) {
        const typename Product::Prepared prepared(u.count);
        ForwardTile<Cell, S, Product>(c, u, scratch).run();
      }...},
      {+[](const BackwardCall<S>& c, const Unit& u, Compute<S>* scratch) {
        const typename Product::Prepared prepared(u.count);
        BackwardTile<Cell, S, Product>(c, u, scratch).run();
      }...},
      add_share<Product, S>, Product::packed_size, Product::pack};
}

}  // namespace
}  // namespace crnn
