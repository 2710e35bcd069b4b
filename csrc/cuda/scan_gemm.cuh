// scan_gemm: the scan of any cell with many channels: a step is one cublasLt product for all chains of all
// directions, and one kernel for the rest of the cell (two of each for a cell of two phases).
//
//   work     block (x, y): chain x of direction y of the batch, at one step; a thread: kWide channels at once
//   memory   scratch holds what goes from step to step: `operand`, the product's rows, dense, in the type of
//            memory; `sums`, its result, and `carry`, what else the cell takes along, in the computing type.
//            It stays in the second-level cache. z and dstate are read, and results written, in place
//   sync     the order of the stream; barriers only in the sums of layer normalisation
//   needs    cublasLt at run time; rows at multiples of 16 bytes for kWide > 1
//   cost     a step: 2 gates D^2 operations a chain at cublasLt's rate with W_hh from the second-level cache,
//            and two launches (some 2 us each, less in a CUDA graph). A position: (gates + states + saved) D
//            values of traffic to memory, 8 gates D bytes to the cache. The state is rounded to the type of
//            memory before each product
#pragma once

#include <type_traits>

#include "gemm_rows.cuh"
#include "gemm_steps.h"

namespace crnn {

template <typename Call>
struct GemmStep {
  Call call;
  GemmPlace at[kLaunchDirections];
  int64_t chains, rows;  // rows of a direction in the buffers; of all
  int states;
  unsigned carried;  // bit j: `carry` holds state j (forward) or its gradient (backward)
  bool product;      // `sums` holds the product; else it is the scan's first and 0
  void *sums, *operand, *carry;
};

// A block's row: one chain of one direction at one step.
template <typename Call, typename S, int kWide>
struct GemmRow {
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  using Values = T[kWide];
  const GemmStep<Call>& step;
  const Call& call;
  const GemmPlace& at;
  const int64_t D, k, chain, segment, n, in_batch;

  CRNN_DEVICE explicit GemmRow(const GemmStep<Call>& s)
      : step(s),
        call(s.call),
        at(s.at[device::block_y()]),
        D(call.D),
        k(call.first_k + device::block_y()),
        chain(device::block_x()),
        segment(uint32_t(chain) / uint32_t(call.N)),
        n(uint32_t(chain) % uint32_t(call.N)),
        in_batch(device::block_y() * step.chains + chain) {}

  CRNN_DEVICE bool exists() const { return segment < at.segments; }
  CRNN_DEVICE int64_t position(int64_t in_segment_0) const { return in_segment_0 + segment * at.line; }
  CRNN_DEVICE int64_t row() const { return call.row(position(at.now), n, k); }
  CRNN_DEVICE T keep(int64_t in_segment_0) const {
    return call.cont ? widen<T>(static_cast<const S*>(call.cont)[position(in_segment_0) * call.N + n]) : T(1);
  }
  // Where state j lies in `carry`.
  CRNN_DEVICE int64_t carry_at(int j) const {
    int before = 0;
    for (int i = 0; i < j; ++i) before += step.carried >> i & 1;
    return (before * step.rows + in_batch) * D;
  }
  CRNN_DEVICE bool carries(int j) const { return step.carried >> j & 1; }

  template <typename Visit>  // visit(d): channels d .. d + kWide
  CRNN_DEVICE void each(Visit&& visit) const {
    for (int64_t d = int64_t(device::thread()) * kWide; d < D; d += int64_t(device::threads()) * kWide)
      visit(d);
  }

  // Mean and 1 / sqrt(variance + eps) of the row whose channels value(d, out) gives, in two passes.
  template <typename Value>
  CRNN_DEVICE void moments(T& mean, T& scale, Value&& value) const {
    T sum = 0, squares = 0;
    each([&](int64_t d) {
      Values a;
      value(d, a);
#pragma unroll
      for (int w = 0; w < kWide; ++w) sum += a[w];
    });
    mean = block_sum(sum, 0) / T(D);
    each([&](int64_t d) {
      Values a;
      value(d, a);
#pragma unroll
      for (int w = 0; w < kWide; ++w) squares += (a[w] - mean) * (a[w] - mean);
    });
    scale = T(1) / T(sqrt(block_sum(squares, 1) / T(D) + T(kLnEps)));
  }
};

// What a cell's pass needs of its numbers. The states that it reads besides the product are the same in both
// passes: what forward carries along, backward's direct gradient reaches.
template <typename Cell>
struct GemmCell {
  static constexpr int kG = Cell::kGates, kFirst = Cell::kFirstGates, kRest = kG - kFirst;
  static constexpr int kStates = Cell::kStates, kSaved = Cell::kSaved, kParams = Cell::kParams;
  static constexpr unsigned kCarried = Cell::kReadsPrev;
};

template <typename Cell, typename S, int kWide>
struct GemmForward : GemmRow<ForwardCall, S, kWide>, GemmCell<Cell> {
  using Base = GemmRow<ForwardCall, S, kWide>;
  using Base::call, Base::D, Base::step, Base::in_batch, Base::k, Base::at;
  using typename Base::T, typename Base::Values;
  using Own = GemmCell<Cell>;

  CRNN_DEVICE explicit GemmForward(const GemmStep<ForwardCall>& s) : Base(s) {}

  CRNN_DEVICE void input(Values (&x)[Own::kG], int64_t d) const {
    const Rows& z = call.z;
    const int64_t from = this->position(at.now) * z.p + this->n * z.n + k * z.k + d;
#pragma unroll
    for (int g = 0; g < Own::kG; ++g) load<S>(x[g], z.data, from + g * D);
  }
  CRNN_DEVICE void recurrent(Values (&r)[Own::kG], int64_t d, int gates) const {
#pragma unroll
    for (int g = 0; g < Own::kG; ++g) {
#pragma unroll
      for (int w = 0; w < kWide; ++w) r[g][w] = 0;
      if (step.product && g < gates) load<T>(r[g], step.sums, (in_batch * Own::kG + g) * D + d);
    }
  }
  CRNN_DEVICE void previous(Values (&prev)[Own::kStates], int64_t d) const {
#pragma unroll
    for (int j = 0; j < Own::kStates; ++j) {
#pragma unroll
      for (int w = 0; w < kWide; ++w) prev[j][w] = 0;
      if (Own::kCarried >> j & 1 && step.product) load<T>(prev[j], step.carry, this->carry_at(j) + d);
    }
  }

  // Between the phases: the operand of the second product.
  CRNN_DEVICE void first_phase() const {
    this->each([&](int64_t d) {
      Values x[Own::kG], r[Own::kG], prev[Own::kStates], operand;
      input(x, d), recurrent(r, d, Own::kFirst), previous(prev, d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) {
        T xs[Own::kG], rs[Own::kG], before[Own::kStates], saved[Own::kSaved + 1];
        gather<Own::kFirst>(xs, x, w), gather<Own::kFirst>(rs, r, w), gather<1>(before, prev, w);
        operand[w] = Cell::operand(Forward<T>{xs, rs, before, nullptr, nullptr, saved});
      }
      store<S>(step.operand, in_batch * D + d, operand);
    });
  }

  CRNN_DEVICE void finish() const {
    T mean = 0, scale = 0;
    if constexpr (Cell::kNormalised)
      this->moments(mean, scale, [&](int64_t d, Values& a) {
        Values x[Own::kG], r[Own::kG];
        input(x, d), recurrent(r, d, 1);
#pragma unroll
        for (int w = 0; w < kWide; ++w) a[w] = x[0][w] + r[0][w];
      });
    const T keep = at.next < 0 ? T(0) : this->keep(at.next);
    this->each([&](int64_t d) {
      Values x[Own::kG], r[Own::kG], prev[Own::kStates], params[Own::kParams + 1], now[Own::kStates];
      Values saved[Own::kSaved + 1];
      input(x, d), recurrent(r, d, Own::kG), previous(prev, d);
#pragma unroll
      for (int i = 0; i < Own::kParams; ++i)
        load<S>(params[i], call.cell_params, (k * Own::kParams + i) * D + d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) {
        T xs[Own::kG], rs[Own::kG], before[Own::kStates], p[Own::kParams + 1], after[Own::kStates];
        T kept[Own::kSaved + 1];
        gather<Own::kG>(xs, x, w), gather<Own::kG>(rs, r, w);
        gather<Own::kStates>(before, prev, w), gather<Own::kParams>(p, params, w);
        if constexpr (Own::kRest > 0) Cell::operand(Forward<T>{xs, rs, before, nullptr, nullptr, kept});
        if constexpr (Cell::kNormalised) kept[0] = xs[0] + rs[0], xs[0] = (kept[0] - mean) * scale, rs[0] = 0;
        Cell::forward(Forward<T>{xs, rs, before, p, after, kept});
        scatter<Own::kStates>(now, after, w), scatter<Own::kSaved>(saved, kept, w);
      }
#pragma unroll
      for (int i = 0; i < Own::kSaved; ++i)
        store<S>(call.saved, (this->row() * Own::kSaved + i) * D + d, saved[i]);
#pragma unroll
      for (int j = 0; j < Own::kStates; ++j)
        store<S>(call.state, j * call.plane() + this->row() * D + d, now[j]);
      if (at.next < 0) return;
#pragma unroll
      for (int j = 0; j < Own::kStates; ++j) {
#pragma unroll
        for (int w = 0; w < kWide; ++w) now[j][w] *= keep;
        if (Own::kCarried >> j & 1) store<T>(step.carry, this->carry_at(j) + d, now[j]);
      }
      store<S>(step.operand, in_batch * D + d, now[0]);
    });
    if constexpr (Cell::kMasked) store_signs<S, kWide>(call, this->row());
  }
};

template <typename Cell, typename S, int kWide>
struct GemmBackward : GemmRow<BackwardCall, S, kWide>, GemmCell<Cell> {
  using Base = GemmRow<BackwardCall, S, kWide>;
  using Base::call, Base::D, Base::step, Base::in_batch, Base::k, Base::at;
  using typename Base::T, typename Base::Values;
  using Own = GemmCell<Cell>;

  CRNN_DEVICE explicit GemmBackward(const GemmStep<BackwardCall>& s) : Base(s) {}

  // State j before the step, times cont.
  CRNN_DEVICE void previous(Values& prev, int j, int64_t d, T keep) const {
#pragma unroll
    for (int w = 0; w < kWide; ++w) prev[w] = 0;
    const int64_t before = call.row(this->position(at.before), this->n, k);
    if (this->segment >= at.continued)
      load<S>(prev, call.state, j * call.plane() + before * D + d);
    else if (call.initial)
      load<S>(prev, call.initial, call.initial_at(j, this->n, k) + d);
#pragma unroll
    for (int w = 0; w < kWide; ++w) prev[w] *= keep;
  }
  // Gradient of state j after the step: dstate's, and from the step after, through the product and past it.
  CRNN_DEVICE void gradient(Values& ds, int j, int64_t d, T keep_next) const {
    const Rows& from = call.dstate;
    load<S>(ds, from.data,
        j * call.dstate_plane + this->position(at.now) * from.p + this->n * from.n + k * from.k + d);
    if (!step.product) return;
    Values past, through;
#pragma unroll
    for (int w = 0; w < kWide; ++w) past[w] = 0, through[w] = 0;
    if (Own::kCarried >> j & 1) load<T>(past, step.carry, this->carry_at(j) + d);
    if (j == 0) load<T>(through, step.sums, in_batch * D + d);
#pragma unroll
    for (int w = 0; w < kWide; ++w) ds[w] += keep_next * (past[w] + through[w]);
  }
  CRNN_DEVICE void saved(Values& values, int i, int64_t d) const {
    load<S>(values, call.saved, (this->row() * Own::kSaved + i) * D + d);
  }
  // To the results, and as the products' operand. Gate by gate; d gate of the rest is not yet known in
  // `first`.
  CRNN_DEVICE void store_gate(const Values& dx, int g, int64_t d) const {
    store<S>(call.dz, (this->row() * Own::kG + g) * D + d, dx);
    store<S>(step.operand, (in_batch * Own::kG + g) * D + d, dx);
  }

  CRNN_DEVICE void begin() const {
    T mean = 0, scale = 0, along_ones = 0, along_n = 0;
    if constexpr (Cell::kNormalised)
      this->moments(mean, scale, [&](int64_t d, Values& a) { saved(a, 0, d); });
    const T keep = this->keep(at.now), keep_next = step.product ? this->keep(at.next) : T(0);
    this->each([&](int64_t d) {
      Values now[Own::kStates] = {}, prev[Own::kStates] = {}, ds[Own::kStates], direct[Own::kStates];
      Values kept[Own::kSaved + 1], params[Own::kParams + 1], dx[Own::kG], dparams[Own::kParams + 1];
#pragma unroll
      for (int j = 0; j < Own::kStates; ++j) {
        if constexpr (Cell::kMasked)
          load_signs(now[j], call, this->row(), d);
        else if (Cell::kReadsState >> j & 1)
          load<S>(now[j], call.state, j * call.plane() + this->row() * D + d);
        if (Cell::kReadsPrev >> j & 1) previous(prev[j], j, d, keep);
        gradient(ds[j], j, d, keep_next);
      }
#pragma unroll
      for (int i = 0; i < Own::kSaved; ++i) saved(kept[i], i, d);
#pragma unroll
      for (int i = 0; i < Own::kParams; ++i)
        load<S>(params[i], call.cell_params, (k * Own::kParams + i) * D + d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) {
        T after[Own::kStates], before[Own::kStates], dstate[Own::kStates], dprev[Own::kStates] = {};
        T values[Own::kSaved + 1], p[Own::kParams + 1], dgate[Own::kG] = {}, dp[Own::kParams + 1];
        gather<Own::kStates>(after, now, w), gather<Own::kStates>(before, prev, w);
        gather<Own::kStates>(dstate, ds, w), gather<Own::kSaved>(values, kept, w);
        gather<Own::kParams>(p, params, w);
        if constexpr (Cell::kNormalised) values[0] = (values[0] - mean) * scale;
        Cell::backward(Backward<T>{after, before, values, p, dstate, dgate, dprev, dp});
        if constexpr (Cell::kNormalised) along_ones += dgate[0], along_n += dgate[0] * values[0];
        scatter<Own::kG>(dx, dgate, w), scatter<Own::kStates>(direct, dprev, w);
        scatter<Own::kParams>(dparams, dp, w);
      }
#pragma unroll
      for (int j = 0; j < Own::kStates; ++j)
        if (Own::kCarried >> j & 1) store<T>(step.carry, this->carry_at(j) + d, direct[j]);
#pragma unroll
      for (int i = 0; i < Own::kParams; ++i) add_share(dparams[i], i, d);
      if constexpr (Cell::kNormalised)
        store<T>(step.sums, in_batch * D + d, dx[0]);  // until the sums are known: what lay there is read
      else
#pragma unroll
        for (int g = 0; g < Own::kG; ++g) store_gate(dx[g], g, d);
    });
    if constexpr (Cell::kNormalised) through_norm(mean, scale, along_ones, along_n);
  }

  // A chain's share in the gradient of cell_params grows from step to step; each has a place of its own.
  CRNN_DEVICE void add_share(const Values& dp, int i, int64_t d) const {
    const int64_t place = ((k * call.tiles + this->chain) * Own::kParams + i) * D + d;
    Values sum;
    load<T>(sum, call.dshares, place);
#pragma unroll
    for (int w = 0; w < kWide; ++w) sum[w] += dp[w];
    store<T>(call.dshares, place, sum);
  }

  // dx[0], the gradient of n = (a - mean) * scale, becomes that of a.
  CRNN_DEVICE void through_norm(T mean, T scale, T along_ones, T along_n) const {
    const T ones = block_sum(along_ones, 2) / T(D), ns = block_sum(along_n, 3) / T(D);
    this->each([&](int64_t d) {
      Values dx, a;
      load<T>(dx, step.sums, in_batch * D + d), saved(a, 0, d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) dx[w] = scale * (dx[w] - ones - (a[w] - mean) * scale * ns);
      store_gate(dx, 0, d);
    });
  }

  // After phase 1's product, `sums`: the gates of phase 0 that its operand was made of.
  CRNN_DEVICE void first_phase() const {
    const T keep = this->keep(at.now);
    this->each([&](int64_t d) {
      Values prev, doperand, direct, kept[Own::kSaved], dx[Own::kFirst];
      previous(prev, 0, d, keep);
      load<T>(doperand, step.sums, in_batch * D + d), load<T>(direct, step.carry, this->carry_at(0) + d);
#pragma unroll
      for (int i = 0; i < Own::kSaved; ++i) saved(kept[i], i, d);
#pragma unroll
      for (int g = 0; g < Own::kFirst; ++g) load<S>(dx[g], step.operand, (in_batch * Own::kG + g) * D + d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) {
        T values[Own::kSaved], dgate[Own::kG];
        gather<Own::kSaved>(values, kept, w);
#pragma unroll
        for (int g = 0; g < Own::kFirst; ++g) dgate[g] = dx[g][w];
        Cell::backward_operand(
            Backward<T>{nullptr, &prev[w], values, nullptr, nullptr, dgate, &direct[w], nullptr},
            doperand[w]);
#pragma unroll
        for (int g = 0; g < Own::kFirst; ++g) dx[g][w] = dgate[g];
      }
      store<T>(step.carry, this->carry_at(0) + d, direct);
#pragma unroll
      for (int g = 0; g < Own::kFirst; ++g) store_gate(dx[g], g, d);
    });
  }
};

// Before the first step: the states that it starts from, times cont.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_start(CRNN_ARGUMENT GemmStep<ForwardCall> step) {
  const GemmRow<ForwardCall, S, kWide> row(step);
  if (!row.exists()) return;
  using Row = GemmRow<ForwardCall, S, kWide>;
  const typename Row::T keep = row.keep(row.at.now);
  for (int j = 0; j < step.states; ++j)
    row.each([&](int64_t d) {
      typename Row::Values value;
      load<S>(value, row.call.initial, row.call.initial_at(j, row.n, row.k) + d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) value[w] *= keep;
      if (row.carries(j)) store<typename Row::T>(step.carry, row.carry_at(j) + d, value);
      if (j == 0) store<S>(step.operand, row.in_batch * row.D + d, value);
    });
}

// After the last: the gradient of `initial`, of segments that start from it.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_end(CRNN_ARGUMENT GemmStep<BackwardCall> step) {
  using Row = GemmRow<BackwardCall, S, kWide>;
  const Row row(step);
  if (!row.exists() || row.segment >= row.at.continued) return;
  const typename Row::T keep = row.keep(row.at.now);
  for (int j = 0; j < step.states; ++j)
    row.each([&](int64_t d) {
      typename Row::Values sum, past;
#pragma unroll
      for (int w = 0; w < kWide; ++w) sum[w] = 0, past[w] = 0;
      if (j == 0) load<typename Row::T>(sum, step.sums, row.in_batch * row.D + d);
      if (row.carries(j)) load<typename Row::T>(past, step.carry, row.carry_at(j) + d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) sum[w] = keep * (sum[w] + past[w]);
      const int64_t states = row.call.N * row.call.K * row.D * step.states;
      store<S>(row.call.dstart, row.segment * states + row.call.initial_at(j, row.n, row.k) + d, sum);
    });
}

template <typename Cell, typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_forward(CRNN_ARGUMENT GemmStep<ForwardCall> step) {
  const GemmForward<Cell, S, kWide> row(step);
  if (row.exists()) row.finish();
}

template <typename Cell, typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_forward_first(CRNN_ARGUMENT GemmStep<ForwardCall> step) {
  const GemmForward<Cell, S, kWide> row(step);
  if (row.exists()) row.first_phase();
}

template <typename Cell, typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_backward(CRNN_ARGUMENT GemmStep<BackwardCall> step) {
  const GemmBackward<Cell, S, kWide> row(step);
  if (row.exists()) row.begin();
}

template <typename Cell, typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
gemm_backward_first(CRNN_ARGUMENT GemmStep<BackwardCall> step) {
  const GemmBackward<Cell, S, kWide> row(step);
  if (row.exists()) row.first_phase();
}

}  // namespace crnn
