// scan_gemm_relu: the scan of cell relu with many channels: a step is exactly one kernel, cublasLt's product
// with C = z and the epilogue relu; backward with C = dstate and the epilogue that zeroes where h was 0.
//
//   work     block (x, y) of relu_enter and relu_leave: chain x % chains of direction y at local time
//            x / chains; all other work is cublasLt's
//   memory   rows [time, directions, chains, D] in scratch, in the type of memory: z comes in, h goes out, in
//            place; backward dstate and dz, with the masks' rows beside them. A single direction of one
//            segment lies in such an order already: then cublasLt reads and writes the tensors themselves
//   sync     the order of the stream
//   needs    cublasLt with these epilogues; no cont
//   cost     a step: 2 D^2 operations a chain at cublasLt's rate, at least W_hh's bytes from the second-level
//            cache; one launch (some 2 us, less in a CUDA graph). A position: 6 D values of traffic, 2 where
//            the tensors serve as they are. The state is rounded to the type of memory at each step
#pragma once

#include <type_traits>

#include "gemm_rows.cuh"
#include "scan_chains.cuh"

namespace crnn {

template <typename Call>
struct ReluRows {
  Call call;
  int64_t chains, blocks;  // rows of a direction at one time; of all directions
  void* rows;              // null: the tensors serve as they are
  void* masks;             // backward: of each row
};

// A block's row: where it is in the tensors and in `rows`.
template <typename Call, typename S, int kWide>
struct ReluRow {
  static constexpr bool kBackward = std::is_same_v<Call, BackwardCall>;
  using T = std::conditional_t<sizeof(S) == 2, float, S>;
  using Values = T[kWide];
  const ReluRows<Call>& to;
  const Call& call;
  const Chains chains;
  const int64_t i, chain, n, D;

  CRNN_DEVICE explicit ReluRow(const ReluRows<Call>& rows)
      : to(rows),
        call(rows.call),
        chains(call, device::block_y(), kBackward),
        i(device::block_x() / to.chains),
        chain(device::block_x() % to.chains),
        n(chains.sample(chain)),
        D(call.D) {}

  CRNN_DEVICE bool exists() const { return chain < chains.count && i < chains.segments.steps; }
  CRNN_DEVICE int64_t position() const {
    return chains.position(chain, kBackward ? chains.segments.steps - 1 - i : i);
  }
  CRNN_DEVICE int64_t row() const { return call.row(position(), n, chains.k); }
  CRNN_DEVICE int64_t at(int64_t time) const {
    return time * to.blocks + device::block_y() * to.chains + chain;
  }
  template <typename Visit>
  CRNN_DEVICE void each(Visit&& visit) const {
    for (int64_t d = int64_t(device::thread()) * kWide; d < D; d += int64_t(device::threads()) * kWide)
      visit(d);
  }
};

// z of every step to rows 1 ..; the first step's, where it starts from nothing, through relu. Row 0:
// `initial`.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
relu_enter(CRNN_ARGUMENT ReluRows<ForwardCall> to) {
  using Row = ReluRow<ForwardCall, S, kWide>;
  const Row row(to);
  if (!row.exists()) return;
  const ForwardCall& call = to.call;
  const int64_t from = row.position() * call.z.p + row.n * call.z.n + row.chains.k * call.z.k;
  row.each([&](int64_t d) {
    typename Row::Values v;
    if (to.rows && row.i == 0 && call.initial) {
      load<S>(v, call.initial, call.initial_at(0, row.n, row.chains.k) + d);
      store<S>(to.rows, row.at(0) * row.D + d, v);
    }
    load<S>(v, call.z.data, from + d);
#pragma unroll
    for (int w = 0; w < kWide; ++w)
      if (row.i == 0 && !call.initial) v[w] = relu(v[w]);
    if (to.rows)
      store<S>(to.rows, row.at(row.i + 1) * row.D + d, v);
    else
      store<S>(call.state, row.row() * row.D + d, v);
  });
}

// h of every step to its place, and its bits.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
relu_leave(CRNN_ARGUMENT ReluRows<ForwardCall> from) {
  using Row = ReluRow<ForwardCall, S, kWide>;
  const Row row(from);
  if (!row.exists()) return;
  if (from.rows)
    row.each([&](int64_t d) {
      typename Row::Values v;
      load<S>(v, from.rows, row.at(row.i + 1) * row.D + d);
      store<S>(from.call.state, row.row() * row.D + d, v);
    });
  store_signs<S, kWide>(from.call, row.row());
}

// dstate of every step to its row, and its bits to theirs; the last step's becomes dz.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
relu_enter_backward(CRNN_ARGUMENT ReluRows<BackwardCall> to) {
  using Row = ReluRow<BackwardCall, S, kWide>;
  const Row row(to);
  if (!row.exists()) return;
  const BackwardCall& call = to.call;
  const Rows& in = call.dstate;
  const int64_t from = row.position() * in.p + row.n * in.n + row.chains.k * in.k;
  row.each([&](int64_t d) {
    typename Row::Values v, sign;
    load<S>(v, in.data, from + d);
    if (row.i == 0) {
      load_signs(sign, call, row.row(), d);
#pragma unroll
      for (int w = 0; w < kWide; ++w) v[w] = sign[w] > 0 ? v[w] : 0;
    }
    if (to.rows)
      store<S>(to.rows, row.at(row.i) * row.D + d, v);
    else
      store<S>(call.dz, row.row() * row.D + d, v);
  });
  const int64_t bytes = mask_bytes(row.D);
  const auto* bits = static_cast<const device::Sixteen*>(call.saved) + row.row() * bytes / 16;
  auto* copy = static_cast<device::Sixteen*>(to.masks) + row.at(row.i) * bytes / 16;
  for (int64_t b = device::thread(); to.rows && b < bytes / 16; b += device::threads()) copy[b] = bits[b];
}

// dz of every step to its place.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
relu_leave_backward(CRNN_ARGUMENT ReluRows<BackwardCall> from) {
  using Row = ReluRow<BackwardCall, S, kWide>;
  const Row row(from);
  if (!row.exists()) return;
  row.each([&](int64_t d) {
    typename Row::Values v;
    load<S>(v, from.rows, row.at(row.i) * row.D + d);
    store<S>(from.call.dz, row.row() * row.D + d, v);
  });
}

// What reached `initial`, in `rows` as one time's, to dstart: of segments that start from it.
template <typename S, int kWide>
CRNN_KERNEL(kGemmThreads, 1)
relu_end(CRNN_ARGUMENT ReluRows<BackwardCall> from) {
  using Row = ReluRow<BackwardCall, S, kWide>;
  const Row row(from);
  if (!row.exists()) return;
  const BackwardCall& call = from.call;
  const int64_t segment = row.chains.segment(row.chain);
  if (row.chains.dir.value_crosses(segment * row.chains.segments.steps)) return;
  const int64_t start = segment * call.N * call.K * row.D + call.initial_at(0, row.n, row.chains.k);
  row.each([&](int64_t d) {
    typename Row::Values v;
    load<S>(v, from.rows, row.at(0) * row.D + d);
    store<S>(call.dstart, start + d, v);
  });
}

}  // namespace crnn
