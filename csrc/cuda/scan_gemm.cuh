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

}  // namespace crnn
