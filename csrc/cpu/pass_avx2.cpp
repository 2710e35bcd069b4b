// The passes over memory, and the products of a few rows, for x86 with AVX2 and FMA.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "few_rows.h"
#include "pass.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx2,fma,prefer-vector-width=256")
#endif
#include "few_rows_tile.h"
#include "lrn_tile.h"
#include "update_piece.h"

namespace crnn {

template <typename S>
const Passes<S>& passes_avx2() {
  static constexpr Passes<S> passes = passes_of<S>("avx2", Rules{});
  return passes;
}
template const Passes<float>& passes_avx2<float>();
template const Passes<double>& passes_avx2<double>();
template const Passes<torch::headeronly::Half>& passes_avx2<torch::headeronly::Half>();
template const Passes<torch::headeronly::BFloat16>& passes_avx2<torch::headeronly::BFloat16>();

template <typename T>
const FewRows<T>& few_rows_avx2() {
  static constexpr FewRows<T> rows = FewRowsOf<T, 32>::table("avx2");
  return rows;
}
template const FewRows<float>& few_rows_avx2<float>();
template const FewRows<double>& few_rows_avx2<double>();

}  // namespace crnn
