// The products of a few rows by each instruction set's vectors, as csrc/cpu/pass_<name>.cpp have them.
#include "few_rows_tile.h"

namespace crnn {

#define ROWS(NAME, BYTES)                                                 \
  template <typename T>                                                   \
  const FewRows<T>& few_rows_##NAME() {                                   \
    static constexpr FewRows<T> rows = FewRowsOf<T, BYTES>::table(#NAME); \
    return rows;                                                          \
  }                                                                       \
  template const FewRows<float>& few_rows_##NAME<float>();                \
  template const FewRows<double>& few_rows_##NAME<double>();

ROWS(portable, 16)
ROWS(avx2, 32)
ROWS(avx512, 64)

}  // namespace crnn
