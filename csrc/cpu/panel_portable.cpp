// The panel product for any processor: 16-byte vectors, 12 accumulators.
#include "panel_product.h"

namespace crnn {

template <typename T>
const Panel<T>& panel_portable() {
  using Product = Blocked<T, 16, 4, 3>;
  static constexpr Panel<T> panel{"portable", Product::kWidth, Product::product};
  return panel;
}
template const Panel<float>& panel_portable<float>();
template const Panel<double>& panel_portable<double>();

}  // namespace crnn
