// Kernels that are one pass over memory, compiled once for each instruction set (pass_<name>.cpp).
//
// S is the type in memory, T (Compute<S>) the one that computes: S itself, or float for half and bfloat16.
#pragma once

#include "../core/lrn_power.h"
#include "../core/updates.h"
#include "tile.h"

namespace crnn {

// The tensor as tiles [rows, columns, lanes]: the window runs over rows (`down`), columns (`along`) or both,
// and never over lanes, which are dense in memory; with one lane the columns are.
template <typename S>
struct LrnCall {
  const S *x, *dy;
  S* out;
  int64_t rows, columns, lanes, row_stride, column_stride;
  bool down, along;
  int64_t size;
  Compute<S> share, beta, k;
  bool three_quarters;

  // Values of a row of a tile, and of a tile, with the border.
  int64_t row_length() const { return (columns + (along ? size - 1 : 0)) * lanes; }
  int64_t plane() const { return (rows + (down ? size - 1 : 0)) * row_length(); }
};
constexpr int64_t kLrnBuffers = 5;  // of `plane` values, zero before a thread's first tile

// A tile at `base` of the tensors; the last of its rows or lanes may be missing.
struct LrnUnit {
  int64_t base, rows, lanes;
};

template <typename S>
struct UpdateCall {
  Compute<S> rate, decay, scale;
  Regularizer regularizer;
  Compute<S> numbers[kMaxNumbers];
};

// `count` values of a blob; a rule without a second history does not read it.
template <typename S>
struct UpdatePiece {
  S* blob;
  const S* grad;
  S* history[kMaxHistories];
  int64_t count;
};

// The kernels of one instruction set; update: a function a rule, in the order of Rules.
template <typename S>
struct Passes {
  const char* name;
  void (*lrn_forward)(const LrnCall<S>&, const LrnUnit&, Compute<S>* buffers);
  void (*lrn_backward)(const LrnCall<S>&, const LrnUnit&, Compute<S>* buffers);
  void (*update[Rules::kCount])(const UpdateCall<S>&, const UpdatePiece<S>&);
};

template <typename S>
const Passes<S>& passes_portable();
template <typename S>
const Passes<S>& passes_avx2();
template <typename S>
const Passes<S>& passes_avx512();

}  // namespace crnn
