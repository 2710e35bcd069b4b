// The passes over memory, and the products of a few rows, for x86 with AVX512.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "few_rows.h"
#include "pass.h"  // before the pragma: what others share is compiled for every processor

#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#include "few_rows_tile.h"
#include "lrn_tile.h"
#include "update_piece.h"

namespace crnn {

template <typename S>
const Passes<S>& passes_avx512() {
  static constexpr Passes<S> passes = passes_of<S>("avx512", Rules{});
  return passes;
}
template const Passes<float>& passes_avx512<float>();
template const Passes<double>& passes_avx512<double>();
template const Passes<torch::headeronly::Half>& passes_avx512<torch::headeronly::Half>();
template const Passes<torch::headeronly::BFloat16>& passes_avx512<torch::headeronly::BFloat16>();

template <typename T>
const FewRows<T>& few_rows_avx512() {
  static constexpr FewRows<T> rows = FewRowsOf<T, 64>::table("avx512");
  return rows;
}
template const FewRows<float>& few_rows_avx512<float>();
template const FewRows<double>& few_rows_avx512<double>();

}  // namespace crnn
