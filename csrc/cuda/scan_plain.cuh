// scan_plain: the scan of any cell, dtype, number of channels and strides, written to be read.
//
//   work     block (x, y): kPlainChains chains of direction y of the launch, through all their steps;
//            a thread takes (chain, channel) or (chain, row of W_hh) pairs in turn
//   memory   what goes from step to step lies in global scratch in the computing type, as on the CPU; W_hh
//            is read from cache at each step
//   sync     a barrier between any two loops over the block's work
//   needs    nothing
//   cost     gates * D * D multiply-adds per position at the rate of plain arithmetic
#pragma once

#include <type_traits>

#include "scan_chains.cuh"

namespace crnn {

constexpr int kPlainChains = 8, kPlainThreads = 256;

template <typename S>
using Compute = std::conditional_t<sizeof(S) == 2, float, S>;

// Values of T that a block keeps in scratch; the passes lay it out in their constructors.
template <typename Cell>
CRNN_HD constexpr int64_t plain_scratch(int64_t D) {
  return kPlainChains * ((Cell::kStates + Cell::kSaved + Cell::kParams + Cell::kGates + 1) * D + 4);
}

// What both passes share. Buffers are [values, kPlainChains, D].
template <typename Cell, typename S>
struct PlainTile {
  using T = Compute<S>;
  static constexpr int kRest = Cell::kGates - Cell::kFirstGates;  // gates of phase 1
  const Chains chains;
  const int64_t D, first, count, tile;
  T* const scratch;

  CRNN_DEVICE PlainTile(const ScanCall& c, bool backward)
      : chains(c, device::block_y(), backward),
        D(c.D),
        first(int64_t(device::block_x()) * kPlainChains),
        count(chains.count - first < kPlainChains ? chains.count - first : kPlainChains),
        tile((chains.k * device::blocks_x()) + device::block_x()),
        scratch(static_cast<T*>(c.scratch) + tile * plain_scratch<Cell>(c.D)) {}

  // Calls visit(b, i) for every chain b of the tile and every i < size; the threads share the work.
  template <typename Visit>
  CRNN_DEVICE void each(int64_t size, Visit&& visit) const {
    for (int64_t at = device::thread(); at < size * count; at += kPlainThreads) visit(at % count, at / count);
    device::block_barrier();
  }

  CRNN_DEVICE int64_t at(int value, int64_t b, int64_t d) const { return (value * kPlainChains + b) * D + d; }
  CRNN_DEVICE int64_t sample(int64_t b) const { return chains.sample(first + b); }
  CRNN_DEVICE int64_t position(int64_t b, int64_t t) const { return chains.position(first + b, t); }
  CRNN_DEVICE int64_t row(int64_t b, int64_t t) const {
    return chains.call.row(position(b, t), sample(b), chains.k);
  }
  CRNN_DEVICE T value(const void* data, int64_t index) const {
    return widen<T>(static_cast<const S*>(data)[index]);
  }
  CRNN_DEVICE T whh(int64_t row, int64_t column) const {
    return value(chains.call.whh, (chains.k * Cell::kGates * D + row) * D + column);
  }
  CRNN_DEVICE T keep(int64_t b, int64_t t) const {
    return chains.call.cont ? value(chains.call.cont, position(b, t) * chains.call.N + sample(b)) : T(1);
  }
  CRNN_DEVICE T param(int i, int64_t d) const {
    return value(chains.call.cell_params, (chains.k * Cell::kParams + i) * D + d);
  }

  // norm[b] = mean and 1 / sqrt(variance + eps) of the channels a(b, d).
  template <typename Row>
  CRNN_DEVICE void normalise(T* norm, Row&& a) const {
    each(1, [&](int64_t b, int64_t) {
      T sum = 0, squares = 0;
      for (int64_t d = 0; d < D; ++d) sum += a(b, d);
      const T mean = sum / T(D);
      for (int64_t d = 0; d < D; ++d) squares += (a(b, d) - mean) * (a(b, d) - mean);
      norm[2 * b] = mean, norm[2 * b + 1] = T(1) / T(sqrt(squares / T(D) + T(kLnEps)));
    });
  }
};

template <typename Cell, typename S>
struct PlainForward : PlainTile<Cell, S> {
  using Base = PlainTile<Cell, S>;
  using Base::D, Base::at, Base::chains, Base::each, Base::kRest, Base::row;
  using typename Base::T;
  const ForwardCall& call;
  T* const before;   // states before the step
  T* const kept;     // saved values
  T* const rec;      // W_hh h, or times the operand
  T* const operand;  // of phase 1
  T* const norm;

  CRNN_DEVICE explicit PlainForward(const ForwardCall& c)
      : Base(c, false),
        call(c),
        before(Base::scratch),
        kept(before + at(Cell::kStates, 0, 0)),
        rec(kept + at(Cell::kSaved, 0, 0)),
        operand(rec + at(Cell::kGates, 0, 0)),
        norm(operand + at(1, 0, 0)) {}

  CRNN_DEVICE void run() {
    each(Cell::kStates * D, [&](int64_t b, int64_t i) {
      const int64_t j = i / D, d = i % D;
      before[at(j, b, d)] =
          call.initial ? this->value(call.initial, call.initial_at(j, this->sample(b), chains.k) + d) : T(0);
    });
    for (int64_t t = 0; t < chains.segments.steps; ++t) {
      each(Cell::kStates * D, [&](int64_t b, int64_t i) { before[at(i / D, b, i % D)] *= this->keep(b, t); });
      product(before, 0, Cell::kFirstGates);
      if constexpr (kRest > 0) {
        each(D, [&](int64_t b, int64_t d) { first_phase(b, t, d); });
        product(operand, Cell::kFirstGates, Cell::kGates);
      }
      if constexpr (Cell::kNormalised)
        this->normalise(norm, [&](int64_t b, int64_t d) { return input(b, t, 0, d) + rec[at(0, b, d)]; });
      each(D, [&](int64_t b, int64_t d) { finish(b, t, d); });
      if constexpr (Cell::kMasked) each((D + 7) / 8, [&](int64_t b, int64_t i) { store_signs(b, t, i); });
    }
  }

  CRNN_DEVICE T input(int64_t b, int64_t t, int gate, int64_t d) const {
    const Rows& z = call.z;
    return this->value(
        z.data, this->position(b, t) * z.p + this->sample(b) * z.n + chains.k * z.k + gate * D + d);
  }

  // rec of gates [from, to) = their rows of W_hh times `vector`.
  CRNN_DEVICE void product(const T* vector, int from, int to) {
    each((to - from) * D, [&](int64_t b, int64_t i) {
      const int64_t r = from * D + i;
      T sum = 0;
      for (int64_t d = 0; d < D; ++d) sum += this->whh(r, d) * vector[at(0, b, d)];
      rec[at(r / D, b, r % D)] = sum;
    });
  }

  CRNN_DEVICE void first_phase(int64_t b, int64_t t, int64_t d) {
    T x[Cell::kGates], r[Cell::kGates], saved[Cell::kSaved + 1] = {};
    for (int g = 0; g < Cell::kFirstGates; ++g) x[g] = input(b, t, g, d), r[g] = rec[at(g, b, d)];
    const T prev = before[at(0, b, d)];
    if constexpr (kRest > 0)
      operand[at(0, b, d)] = Cell::operand(Forward<T>{x, r, &prev, nullptr, nullptr, saved});
    for (int i = 0; i < Cell::kSaved; ++i) kept[at(i, b, d)] = saved[i];
  }

  CRNN_DEVICE void finish(int64_t b, int64_t t, int64_t d) {
    T x[Cell::kGates], r[Cell::kGates], prev[Cell::kStates], p[Cell::kParams + 1], now[Cell::kStates];
    T saved[Cell::kSaved + 1];
    for (int g = 0; g < Cell::kGates; ++g) x[g] = input(b, t, g, d), r[g] = rec[at(g, b, d)];
    for (int j = 0; j < Cell::kStates; ++j) prev[j] = before[at(j, b, d)];
    for (int i = 0; i < Cell::kParams; ++i) p[i] = this->param(i, d);
    if constexpr (kRest > 0)
      for (int i = 0; i < Cell::kSaved; ++i) saved[i] = kept[at(i, b, d)];
    if constexpr (Cell::kNormalised)
      saved[0] = x[0] + r[0], x[0] = (saved[0] - norm[2 * b]) * norm[2 * b + 1], r[0] = 0;
    Cell::forward(Forward<T>{x, r, prev, p, now, saved});
    for (int j = 0; j < Cell::kStates; ++j) {
      static_cast<S*>(call.state)[j * call.plane() + row(b, t) * D + d] = narrow<S>(now[j]);
      before[at(j, b, d)] = now[j];
    }
    for (int i = 0; i < Cell::kSaved; ++i)
      static_cast<S*>(call.saved)[(row(b, t) * Cell::kSaved + i) * D + d] = narrow<S>(saved[i]);
  }

  // Byte i of a masked cell's row, from the state as it was stored.
  CRNN_DEVICE void store_signs(int64_t b, int64_t t, int64_t i) {
    unsigned bits = 0;
    for (int64_t d = i * 8; d < i * 8 + 8 && d < D; ++d)
      bits |= unsigned(this->value(call.state, row(b, t) * D + d) > T(0)) << (d - i * 8);
    static_cast<unsigned char*>(call.saved)[row(b, t) * mask_bytes(D) + i] = static_cast<unsigned char>(bits);
  }
};

template <typename Cell, typename S>
struct PlainBackward : PlainTile<Cell, S> {
  using Base = PlainTile<Cell, S>;
  using Base::D, Base::at, Base::chains, Base::each, Base::kRest, Base::row;
  using typename Base::T;
  const BackwardCall& call;
  T* const carry;  // gradient of the states, from the steps after
  T* const dx;     // of the gates
  T* const share;  // dx times W_hh
  T* const dparams;
  T* const norm;  // mean and scale of each chain
  T* const sums;  // of d n and of d n * n

  CRNN_DEVICE explicit PlainBackward(const BackwardCall& c)
      : Base(c, true),
        call(c),
        carry(Base::scratch),
        dx(carry + at(Cell::kStates, 0, 0)),
        share(dx + at(Cell::kGates, 0, 0)),
        dparams(share + at(1, 0, 0)),
        norm(dparams + at(Cell::kParams, 0, 0)),
        sums(norm + 2 * kPlainChains) {}

  CRNN_DEVICE void run() {
    each(Cell::kStates * D, [&](int64_t b, int64_t i) { carry[at(i / D, b, i % D)] = 0; });
    each(Cell::kParams * D, [&](int64_t b, int64_t i) { dparams[at(i / D, b, i % D)] = 0; });
    for (int64_t t = chains.segments.steps - 1; t >= 0; --t) {
      if constexpr (Cell::kNormalised)
        this->normalise(norm, [&](int64_t b, int64_t d) { return saved(b, t, 0, d); });
      each(D, [&](int64_t b, int64_t d) { begin(b, t, d); });
      if constexpr (Cell::kNormalised) through_norm(t);
      if constexpr (kRest > 0) {
        product(Cell::kFirstGates, Cell::kGates);
        each(D, [&](int64_t b, int64_t d) { first_phase(b, t, d); });
      }
      each(Cell::kGates * D, [&](int64_t b, int64_t i) {
        static_cast<S*>(call.dz)[row(b, t) * Cell::kGates * D + i] = narrow<S>(dx[at(i / D, b, i % D)]);
      });
      product(0, Cell::kFirstGates);
      each(Cell::kStates * D, [&](int64_t b, int64_t i) {
        T& value = carry[at(i / D, b, i % D)];
        value = this->keep(b, t) * (value + (i < D ? share[at(0, b, i)] : T(0)));
      });
    }
    if (call.dstart) each(Cell::kStates * D, [&](int64_t b, int64_t i) { store_start(b, i / D, i % D); });
    for (int64_t i = device::thread(); i < Cell::kParams * D; i += kPlainThreads) {
      T sum = 0;
      for (int64_t b = 0; b < this->count; ++b) sum += dparams[at(i / D, b, i % D)];
      static_cast<T*>(call.dshares)[this->tile * Cell::kParams * D + i] = sum;
    }
  }

  CRNN_DEVICE T saved(int64_t b, int64_t t, int i, int64_t d) const {
    return this->value(call.saved, (row(b, t) * Cell::kSaved + i) * D + d);
  }
  // State j after step t; of a masked cell 1 or 0.
  CRNN_DEVICE T after(int64_t b, int64_t t, int j, int64_t d) const {
    if constexpr (Cell::kMasked)
      return T(static_cast<const unsigned char*>(call.saved)[row(b, t) * mask_bytes(D) + d / 8] >> d % 8 & 1);
    else
      return this->value(call.state, j * call.plane() + row(b, t) * D + d);
  }
  // State j before step t, times cont.
  CRNN_DEVICE T previous(int64_t b, int64_t t, int j, int64_t d) const {
    const int64_t s = chains.step(this->first + b, t), n = this->sample(b);
    T v = 0;
    if (chains.dir.value_crosses(s))
      v = this->value(
          call.state, j * call.plane() + call.row(chains.dir.position(s - 1), n, chains.k) * D + d);
    else if (call.initial)
      v = this->value(call.initial, call.initial_at(j, n, chains.k) + d);
    return this->keep(b, t) * v;
  }

  CRNN_DEVICE void begin(int64_t b, int64_t t, int64_t d) {
    T now[Cell::kStates], prev[Cell::kStates], kept[Cell::kSaved + 1], p[Cell::kParams + 1];
    T ds[Cell::kStates], dgate[Cell::kGates] = {}, dprev[Cell::kStates] = {}, dp[Cell::kParams + 1];
    const int64_t in =
        this->position(b, t) * call.dstate.p + this->sample(b) * call.dstate.n + chains.k * call.dstate.k + d;
    for (int j = 0; j < Cell::kStates; ++j) {
      now[j] = after(b, t, j, d), prev[j] = previous(b, t, j, d);
      ds[j] = carry[at(j, b, d)] + this->value(call.dstate.data, j * call.dstate_plane + in);
    }
    for (int i = 0; i < Cell::kSaved; ++i) kept[i] = saved(b, t, i, d);
    for (int i = 0; i < Cell::kParams; ++i) p[i] = this->param(i, d);
    if constexpr (Cell::kNormalised) kept[0] = (kept[0] - norm[2 * b]) * norm[2 * b + 1];
    Cell::backward(Backward<T>{now, prev, kept, p, ds, dgate, dprev, dp});
    for (int g = 0; g < Cell::kGates; ++g) dx[at(g, b, d)] = dgate[g];
    for (int j = 0; j < Cell::kStates; ++j) carry[at(j, b, d)] = dprev[j];
    for (int i = 0; i < Cell::kParams; ++i) dparams[at(i, b, d)] += dp[i];
  }

  // dx[0], the gradient of n = (a - mean) * scale, becomes that of a.
  CRNN_DEVICE void through_norm(int64_t t) {
    const auto n = [&](int64_t b, int64_t d) { return (saved(b, t, 0, d) - norm[2 * b]) * norm[2 * b + 1]; };
    each(1, [&](int64_t b, int64_t) {
      T sum = 0, along = 0;
      for (int64_t d = 0; d < D; ++d) sum += dx[at(0, b, d)], along += dx[at(0, b, d)] * n(b, d);
      sums[2 * b] = sum / T(D), sums[2 * b + 1] = along / T(D);
    });
    each(D, [&](int64_t b, int64_t d) {
      T& v = dx[at(0, b, d)];
      v = norm[2 * b + 1] * (v - sums[2 * b] - n(b, d) * sums[2 * b + 1]);
    });
  }

  // share = dx of gates [from, to) times their rows of W_hh.
  CRNN_DEVICE void product(int from, int to) {
    each(D, [&](int64_t b, int64_t d) {
      T sum = 0;
      for (int64_t r = from * D; r < to * D; ++r) sum += dx[at(r / D, b, r % D)] * this->whh(r, d);
      share[at(0, b, d)] = sum;
    });
  }

  CRNN_DEVICE void first_phase(int64_t b, int64_t t, int64_t d) {
    T kept[Cell::kSaved + 1], dgate[Cell::kGates];
    const T prev = previous(b, t, 0, d);
    for (int i = 0; i < Cell::kSaved; ++i) kept[i] = saved(b, t, i, d);
    for (int g = 0; g < Cell::kGates; ++g) dgate[g] = dx[at(g, b, d)];
    if constexpr (kRest > 0)
      Cell::backward_operand(
          Backward<T>{nullptr, &prev, kept, nullptr, nullptr, dgate, carry + at(0, b, d), nullptr},
          share[at(0, b, d)]);
    for (int g = 0; g < Cell::kFirstGates; ++g) dx[at(g, b, d)] = dgate[g];
  }

  // Only segments that start from `initial` have a share in its gradient.
  CRNN_DEVICE void store_start(int64_t b, int64_t j, int64_t d) {
    const int64_t segment = chains.segment(this->first + b), states = call.N * call.K * D * Cell::kStates;
    if (chains.dir.value_crosses(segment * chains.segments.steps)) return;
    static_cast<S*>(call.dstart)[segment * states + call.initial_at(j, this->sample(b), chains.k) + d] =
        narrow<S>(carry[at(j, b, d)]);
  }
};

template <typename Cell, typename S>
CRNN_KERNEL(kPlainThreads, 1)
plain_forward(CRNN_ARGUMENT ForwardCall call) {
  PlainForward<Cell, S> tile(call);
  if (tile.count > 0) tile.run();
}

template <typename Cell, typename S>
CRNN_KERNEL(kPlainThreads, 1)
plain_backward(CRNN_ARGUMENT BackwardCall call) {
  PlainBackward<Cell, S> tile(call);
  if (tile.count > 0) tile.run();
}

}  // namespace crnn
