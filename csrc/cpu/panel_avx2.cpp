// The panel product for x86 with AVX2 and FMA: 32-byte vectors, 12 of the 16 registers accumulate.
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#endif
#include "panel_product.h"

namespace crnn {

template <typename T>
const Panel<T>& panel_avx2() {
  using Product = Blocked<T, 32, 2, 6>;
  static constexpr Panel<T> panel{"avx2", Product::kWidth, Product::product};
  return panel;
}
template const Panel<float>& panel_avx2<float>();
template const Panel<double>& panel_avx2<double>();

}  // namespace crnn
