// Small dense products for the scan: a few rows times a matrix that stays in cache.
//
// The matrix [inner, columns] is packed once into panels of `width` columns: packed[panel][inner][width], the
// last panel padded with zeros. out = a * matrix for `rows` rows; every output is one sum over `inner` in
// order, so its bits do not depend on how the rows are split into calls.
#pragma once

#include <cstdint>

namespace crnn {

template <typename T>
struct Panel {
  const char* name;
  int64_t width;
  // a [rows, inner] with row stride lda; out [rows, panels * width] with row stride ldo.
  void (*product)(int64_t rows, int64_t inner, const T* a, int64_t lda, const T* packed, int64_t panels,
      T* out, int64_t ldo);
};

// One per instruction set; each is compiled for it in a file of its own (panel_<name>.cpp).
template <typename T>
const Panel<T>& panel_portable();
template <typename T>
const Panel<T>& panel_avx2();

// packed[panel][i][c] = matrix[i * row_stride + c * column_stride]; S may be narrower than T.
template <typename S, typename T>
void pack(const S* matrix, int64_t inner, int64_t columns, int64_t row_stride, int64_t column_stride,
    int64_t width, T* packed) {
  for (int64_t first = 0; first < columns; first += width)
    for (int64_t i = 0; i < inner; ++i)
      for (int64_t c = first; c < first + width; ++c)
        *packed++ = c < columns ? T(matrix[i * row_stride + c * column_stride]) : T(0);
}

}  // namespace crnn
