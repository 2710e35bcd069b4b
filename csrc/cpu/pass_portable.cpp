// The passes over memory, and the products of a few rows, for any processor.
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "few_rows.h"
#include "pass.h"  // before the pragma: what others share is compiled for every processor

#include "few_rows_tile.h"
#include "lrn_tile.h"
#include "update_piece.h"

namespace crnn {

template <typename S>
const Passes<S>& passes_portable() {
  static constexpr Passes<S> passes = passes_of<S>("portable", Rules{});
  return passes;
}
template const Passes<float>& passes_portable<float>();
template const Passes<double>& passes_portable<double>();
template const Passes<torch::headeronly::Half>& passes_portable<torch::headeronly::Half>();
template const Passes<torch::headeronly::BFloat16>& passes_portable<torch::headeronly::BFloat16>();

template <typename T>
const FewRows<T>& few_rows_portable() {
  static constexpr FewRows<T> rows = FewRowsOf<T, 16>::table("portable");
  return rows;
}
template const FewRows<float>& few_rows_portable<float>();
template const FewRows<double>& few_rows_portable<double>();

}  // namespace crnn
