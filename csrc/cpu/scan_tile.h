// One unit of the CPU scan: a tile of sequences of one direction, taken through all their steps by one
// thread.
//
// S is the type in memory, T the one that computes: S itself, or float for half and bfloat16. Values carried
// from step to step stay in T.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "../core/scan.h"
#include "panel.h"

namespace crnn {

constexpr int64_t kTile = 24;  // chains of a unit: four row blocks of the widest product

// Element strides of a [P, N, K, D] tensor; channels are dense.
struct Strides {
  int64_t p, n, k;
  explicit Strides(const Tensor& t, int64_t first = 0)
      : p(t.stride(first)), n(t.stride(first + 1)), k(t.stride(first + 2)) {}
};

// Chains first .. first + count - 1 of direction k; a chain is (segment, sample), numbered segment by
// segment.
struct Unit {
  int64_t index, k, first, count;
  Segments segments;
};

// What the units of a call share. The optional inputs are null where there are none.
template <typename S, typename T>
struct Call {
  const ScanShape& q;
  const Panel<T>& panel;
  const S *cell_params, *initial, *cont;
  std::vector<T> packed[2] = {};  // W_hh of each phase, per direction

  int64_t row(int64_t p, int64_t n, int64_t k) const { return (p * q.N + n) * q.K + k; }
  int64_t plane() const { return q.P * q.N * q.K * q.D; }  // between two states
  int64_t initial_at(int64_t j, int64_t n, int64_t k) const { return ((j * q.N + n) * q.K + k) * q.D; }
  T keep(int64_t p, int64_t n) const { return cont ? T(cont[p * q.N + n]) : T(1); }
  int64_t padded(int64_t columns) const { return (columns + panel.width - 1) / panel.width * panel.width; }

  // Packs [inner, columns] of all directions: matrix[i][c] = whh[k][i * row_stride + c * column_stride].
  void pack_all(
      int phase, const S* whh, int64_t inner, int64_t columns, int64_t row_stride, int64_t column_stride) {
    const int64_t size = inner * padded(columns);
    packed[phase].resize(q.K * size);
    for (int64_t k = 0; k < q.K; ++k)
      pack(whh + k * q.gates * q.D * q.D, inner, columns, row_stride, column_stride, panel.width,
          packed[phase].data() + k * size);
  }
  // out [rows, padded(columns)] = a [rows, inner] (row stride lda) times the packed matrix of the phase
  void product(int phase, int64_t k, int64_t rows, int64_t inner, int64_t columns, const T* a, int64_t lda,
      T* out) const {
    const int64_t width = padded(columns);
    panel.product(
        rows, inner, a, lda, packed[phase].data() + k * inner * width, width / panel.width, out, width);
  }
};

// Mean and 1 / sqrt(variance + eps) of a row.
template <typename T>
struct Normaliser {
  T mean = 0, scale = 0;
  template <typename Row>
  Normaliser(int64_t D, Row&& a) {
    T sum = 0, squares = 0;
    for (int64_t d = 0; d < D; ++d) sum += a(d);
    mean = sum / T(D);
    for (int64_t d = 0; d < D; ++d) squares += (a(d) - mean) * (a(d) - mean);
    scale = T(1) / std::sqrt(squares / T(D) + T(kLnEps));
  }
};

template <typename S>
struct Values {
  const S* z;
  Strides zs;
  S *state, *saved;
};

template <typename Cell, typename S, typename T>
struct ForwardTile {
  static constexpr int kRest = Cell::kGates - Cell::kFirstGates;  // gates of phase 1
  const Call<S, T>& c;
  const Unit& u;
  const Values<S>& v;
  const Direction& dir = c.q.plan[u.k];
  const int64_t D = c.q.D, tile = u.count * D;
  const int64_t columns[2] = {c.padded(Cell::kFirstGates * D), c.padded(kRest * D)};
  std::vector<T> before = std::vector<T>(Cell::kStates * tile), kept = std::vector<T>(Cell::kSaved * tile);
  std::vector<T> operand = std::vector<T>(kRest ? tile : 0);
  std::vector<T> rec[2] = {std::vector<T>(u.count * columns[0]), std::vector<T>(u.count * columns[1])};

  int64_t sample(int64_t b) const { return (u.first + b) % c.q.N; }
  int64_t position(int64_t b, int64_t t) const {
    return dir.position((u.first + b) / c.q.N * u.segments.steps + t);
  }

  void run() {
    if (c.initial)
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t b = 0; b < u.count; ++b)
          std::copy_n(c.initial + c.initial_at(j, sample(b), u.k), D, &before[j * tile + b * D]);
    for (int64_t t = 0; t < u.segments.steps; ++t) {
      if (c.cont) apply_cont(t);
      const bool carried = t > 0 || c.initial;  // else h is 0, and so is its product
      if (carried) c.product(0, u.k, u.count, D, Cell::kFirstGates * D, before.data(), D, rec[0].data());
      if constexpr (kRest > 0) {
        for (int64_t b = 0; b < u.count; ++b) first_phase(b, t);
        if (carried) c.product(1, u.k, u.count, D, kRest * D, operand.data(), D, rec[1].data());
      }
      for (int64_t b = 0; b < u.count; ++b) finish(b, t);
    }
  }

  void apply_cont(int64_t t) {
    for (int64_t b = 0; b < u.count; ++b) {
      const T keep = c.keep(position(b, t), sample(b));
      for (int j = 0; j < Cell::kStates; ++j)
        for (int64_t d = 0; d < D; ++d) before[j * tile + b * D + d] *= keep;
    }
  }

  const S* input(int64_t b, int64_t t) const {
    return v.z + position(b, t) * v.zs.p + sample(b) * v.zs.n + u.k * v.zs.k;
  }

  void first_phase(int64_t b, int64_t t) {
    const S* in = input(b, t);
    for (int64_t d = 0; d < D; ++d) {
      T x[Cell::kGates], r[Cell::kGates], saved[Cell::kSaved + 1] = {};
      for (int g = 0; g < Cell::kFirstGates; ++g)
        x[g] = in[g * D + d], r[g] = rec[0][b * columns[0] + g * D + d];
      const T prev = before[b * D + d];
      operand[b * D + d] = Cell::operand(Forward<T>{x, r, &prev, nullptr, nullptr, saved});
      for (int i = 0; i < Cell::kSaved; ++i) kept[i * tile + b * D + d] = saved[i];
    }
  }

  void finish(int64_t b, int64_t t) {
    const S *in = input(b, t), *params = c.cell_params + u.k * Cell::kParams * D;
    const int64_t row = c.row(position(b, t), sample(b), u.k);
    S *state_row = v.state + row * D, *saved_row = v.saved + row * Cell::kSaved * D;
    const T *rec0 = &rec[0][b * columns[0]], *rec1 = kRest ? &rec[1][b * columns[1]] : nullptr;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(in[d]) + rec0[d]; });
      mean = norm.mean, scale = norm.scale;
    }
    for (int64_t d = 0; d < D; ++d) {
      T x[Cell::kGates], r[Cell::kGates], prev[Cell::kStates], p[Cell::kParams + 1], now[Cell::kStates];
      T saved[Cell::kSaved + 1];
      for (int g = 0; g < Cell::kGates; ++g) {
        x[g] = in[g * D + d];
        r[g] = g < Cell::kFirstGates ? rec0[g * D + d] : rec1[(g - Cell::kFirstGates) * D + d];
      }
      for (int j = 0; j < Cell::kStates; ++j) prev[j] = before[j * tile + b * D + d];
      for (int i = 0; i < Cell::kParams; ++i) p[i] = params[i * D + d];
      if constexpr (kRest > 0)
        for (int i = 0; i < Cell::kSaved; ++i) saved[i] = kept[i * tile + b * D + d];
      if constexpr (Cell::kNormalised) saved[0] = x[0] + r[0], x[0] = (saved[0] - mean) * scale, r[0] = 0;
      Cell::forward(Forward<T>{x, r, prev, p, now, saved});
      for (int j = 0; j < Cell::kStates; ++j)
        state_row[j * c.plane() + d] = before[j * tile + b * D + d] = now[j];
      for (int i = 0; i < Cell::kSaved; ++i) saved_row[i * D + d] = saved[i];
    }
  }
};

// dparams [unit, params, D] sums a unit's share; dstart [segment, states, N, K, D] is null without `initial`.
template <typename S, typename T>
struct Gradients {
  const S *state, *saved, *dstate;
  Strides ds;
  int64_t dstate_plane;
  S *dz, *dstart;
  T* dparams;
};

template <typename Cell, typename S, typename T>
struct BackwardTile {
  static constexpr int kRest = Cell::kGates - Cell::kFirstGates;
  // Where a chain's step stands, and the states before it: state j at before + j * between.
  struct Place {
    int64_t p, n, row, between;
    const S* before;
    T keep;
  };

  const Call<S, T>& c;
  const Unit& u;
  const Gradients<S, T>& g;
  const Direction& dir = c.q.plan[u.k];
  const int64_t D = c.q.D, tile = u.count * D, gates = Cell::kGates * D, columns = c.padded(D);
  std::vector<T> carry = std::vector<T>(Cell::kStates * tile), dx = std::vector<T>(u.count * gates);
  std::vector<T> product = std::vector<T>(u.count * columns);
  std::vector<S> zeros = std::vector<S>(D, S(0));
  std::vector<Place> places = std::vector<Place>(u.count);  // of the current step

  Place place(int64_t b, int64_t t) const {
    const int64_t n = (u.first + b) % c.q.N, s = (u.first + b) / c.q.N * u.segments.steps + t;
    const int64_t p = dir.position(s), row = c.row(p, n, u.k);
    if (dir.value_crosses(s))
      return {p, n, row, c.plane(), g.state + c.row(dir.position(s - 1), n, u.k) * D, c.keep(p, n)};
    if (c.initial) return {p, n, row, c.q.N * c.q.K * D, c.initial + c.initial_at(0, n, u.k), c.keep(p, n)};
    return {p, n, row, 0, zeros.data(), c.keep(p, n)};
  }

  void run() {
    for (int64_t t = u.segments.steps - 1; t >= 0; --t) {
      for (int64_t b = 0; b < u.count; ++b) places[b] = place(b, t), begin(b, places[b]);
      if constexpr (kRest > 0) {
        c.product(1, u.k, u.count, kRest * D, D, &dx[Cell::kFirstGates * D], gates, product.data());
        for (int64_t b = 0; b < u.count; ++b) first_phase(b, places[b]);
      }
      for (int64_t b = 0; b < u.count; ++b) std::copy_n(&dx[b * gates], gates, g.dz + places[b].row * gates);
      if (t == 0 && !g.dstart) return;
      c.product(0, u.k, u.count, Cell::kFirstGates * D, D, dx.data(), gates, product.data());
      for (int64_t b = 0; b < u.count; ++b) carry_on(b, places[b].keep);
    }
    for (int64_t b = 0; b < u.count; ++b) store_start(b);
  }

  void begin(int64_t b, const Place& at) {
    const S *state_row = g.state + at.row * D, *saved_row = g.saved + at.row * Cell::kSaved * D;
    const S* ds_row = g.dstate + at.p * g.ds.p + at.n * g.ds.n + u.k * g.ds.k;
    const S* params = c.cell_params + u.k * Cell::kParams * D;
    T *dx_row = &dx[b * gates], *dparams = g.dparams + u.index * Cell::kParams * D;
    T mean = 0, scale = 1;
    if constexpr (Cell::kNormalised) {
      const Normaliser<T> norm(D, [&](int64_t d) { return T(saved_row[d]); });
      mean = norm.mean, scale = norm.scale;
    }
    const S* before = at.before;
    const int64_t plane = c.plane(), between = at.between, dstate_plane = g.dstate_plane, D = this->D;
    const T keep = at.keep;
    T* carry_row = &carry[b * D];
#pragma GCC ivdep  // the rows are of different tensors
    for (int64_t d = 0; d < D; ++d) {
      T now[Cell::kStates], prev[Cell::kStates], saved[Cell::kSaved + 1], p[Cell::kParams + 1];
      T ds[Cell::kStates], dgate[Cell::kGates] = {}, dprev[Cell::kStates] = {}, dp[Cell::kParams + 1];
      for (int j = 0; j < Cell::kStates; ++j) {
        now[j] = state_row[j * plane + d], prev[j] = keep * T(before[j * between + d]);
        ds[j] = carry_row[j * tile + d] + T(ds_row[j * dstate_plane + d]);
      }
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = saved_row[i * D + d];
      for (int i = 0; i < Cell::kParams; ++i) p[i] = params[i * D + d];
      if constexpr (Cell::kNormalised) saved[0] = (saved[0] - mean) * scale;
      Cell::backward(Backward<T>{now, prev, saved, p, ds, dgate, dprev, dp});
      for (int i = 0; i < Cell::kGates; ++i) dx_row[i * D + d] = dgate[i];
      for (int j = 0; j < Cell::kStates; ++j) carry_row[j * tile + d] = dprev[j];
      for (int i = 0; i < Cell::kParams; ++i) dparams[i * D + d] += dp[i];
    }
    if constexpr (Cell::kNormalised) through_norm(dx_row, saved_row, mean, scale);
  }

  // From d n of n = (a - mean) * scale to d a.
  void through_norm(T* dn, const S* a, T mean, T scale) const {
    T sum = 0, along = 0;
    for (int64_t d = 0; d < D; ++d) sum += dn[d], along += dn[d] * (T(a[d]) - mean) * scale;
    for (int64_t d = 0; d < D; ++d)
      dn[d] = scale * (dn[d] - sum / T(D) - (T(a[d]) - mean) * scale * along / T(D));
  }

  void first_phase(int64_t b, const Place& at) {
    const S* saved_row = g.saved + at.row * Cell::kSaved * D;
    for (int64_t d = 0; d < D; ++d) {
      T saved[Cell::kSaved + 1], dgate[Cell::kGates];
      const T prev = at.keep * T(at.before[d]);
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = saved_row[i * D + d];
      for (int i = 0; i < Cell::kGates; ++i) dgate[i] = dx[b * gates + i * D + d];
      Cell::backward_operand(
          Backward<T>{nullptr, &prev, saved, nullptr, nullptr, dgate, &carry[b * D + d], nullptr},
          product[b * columns + d]);
      for (int i = 0; i < Cell::kFirstGates; ++i) dx[b * gates + i * D + d] = dgate[i];
    }
  }

  void carry_on(int64_t b, T keep) {
    T *row = &carry[b * D], *share = &product[b * columns];
#pragma GCC ivdep
    for (int64_t d = 0; d < D; ++d) row[d] = keep * (row[d] + share[d]);
    for (int j = 1; j < Cell::kStates; ++j)
      for (int64_t d = 0; d < D; ++d) carry[j * tile + b * D + d] *= keep;
  }

  // Only segments that start from `initial` have a share in its gradient.
  void store_start(int64_t b) const {
    const int64_t segment = (u.first + b) / c.q.N, n = (u.first + b) % c.q.N;
    if (dir.value_crosses(segment * u.segments.steps)) return;
    S* out = g.dstart + segment * Cell::kStates * c.q.N * c.q.K * D;
    for (int j = 0; j < Cell::kStates; ++j)
      std::copy_n(&carry[j * tile + b * D], D, out + c.initial_at(j, n, u.k));
  }
};

}  // namespace crnn
