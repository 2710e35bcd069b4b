// A piece of a blob through the solver's update, in one pass. Included by each pass_<name>.cpp after it has
// chosen the instruction set; includes nothing of the standard library (tile_scan.h says why).
#pragma once

#include "pass.h"

namespace crnn {
namespace {

template <typename Rule, Regularizer kind, typename S>
void update_values(const UpdateCall<S>& c, const UpdatePiece<S>& piece) {
  using T = Compute<S>;
  S* __restrict w = piece.blob, * __restrict first = piece.history[0], * __restrict second = piece.history[1];
  const S* __restrict g = piece.grad;
  const T scale = c.scale, decay = c.decay, rate = c.rate;
  T numbers[kMaxNumbers];
  for (int i = 0; i < kMaxNumbers; ++i) numbers[i] = c.numbers[i];
  for (int64_t i = 0; i < piece.count; ++i) {
    T h[kMaxHistories] = {T(first[i])};
    if constexpr (Rule::kHistories > 1) h[1] = T(second[i]);
    w[i] = S(updated<Rule, kind>(T(w[i]), T(g[i]), scale, decay, rate, numbers, h));
    first[i] = S(h[0]);
    if constexpr (Rule::kHistories > 1) second[i] = S(h[1]);
  }
}

template <typename Rule, typename S>
void update_piece(const UpdateCall<S>& c, const UpdatePiece<S>& piece) {
  switch (c.regularizer) {
    case Regularizer::kNone:
      return update_values<Rule, Regularizer::kNone>(c, piece);
    case Regularizer::kL2:
      return update_values<Rule, Regularizer::kL2>(c, piece);
    case Regularizer::kL1:
      return update_values<Rule, Regularizer::kL1>(c, piece);
  }
}

// The table that pass.h declares.
template <typename S, typename... Rule>
constexpr Passes<S> passes_of(const char* name, CellList<Rule...>) {
  return {name, lrn_forward<S>, lrn_backward<S>, {update_piece<Rule, S>...}};
}

}  // namespace
}  // namespace crnn
