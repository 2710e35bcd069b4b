// scan_gemm, forward: the rest of the cell after the product with the states; the next product's operand.
#pragma once

#include "scan_gemm.cuh"

namespace crnn {

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

}  // namespace crnn
