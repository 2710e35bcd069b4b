// scan_gemm, backward: the cell's gradients, which are the operand of the product that follows.
#pragma once

#include "scan_gemm.cuh"

namespace crnn {

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
