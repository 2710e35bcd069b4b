// Products of a few rows with a large matrix on the CPU (few_rows_tile.h).
//
//   work     forward: some rows of W; dx: some columns of W; dW: some rows of dW. Each is one thread's
//   order    no sum is shared between threads: equal bits for any number of them
//   cost     W is read, or dW written, once; x and dy are packed first, which a few rows are cheap to
#include <torch/headeronly/core/Dispatch_v2.h>

#include <algorithm>
#include <string>

#include "../core/inner_product.h"
#include "../core/text.h"
#include "few_rows.h"
#include "processor.h"
#include "share_out.h"
#include "tile.h"

namespace crnn {
namespace {

template <typename T>
const FewRows<T>& chosen(const std::string& variant) {
  return choose(
      "crnn::inner_product", variant, {&few_rows_avx512<T>(), &few_rows_avx2<T>(), &few_rows_portable<T>()});
}

template <typename T>
Aligned<T> in_chunks(const T* x, int64_t N, int64_t K) {
  constexpr int64_t kPitch = kFewChunk + kFewGap;
  const int64_t rows = (K + kFewChunk - 1) / kFewChunk * N;
  Aligned<T> packed(rows * kPitch);
  torch::stable::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t k = row / N * kFewChunk, count = std::min(kFewChunk, K - k);
      T* to = packed.data() + row * kPitch;
      std::copy_n(x + row % N * K + k, count, to);
      std::fill(to + count, to + kPitch, T(0));
    }
  });
  return packed;
}

// dy [N, O] as [O / width, N, width], zeros beyond O.
template <typename T>
Aligned<T> in_tiles(const T* dy, int64_t N, int64_t O, int64_t width) {
  const int64_t tiles = (O + width - 1) / width;
  Aligned<T> packed(tiles * N * width);
  for (int64_t t = 0; t < tiles; ++t)
    for (int64_t n = 0; n < N; ++n)
      for (int64_t i = 0; i < width; ++i)
        packed.data()[(t * N + n) * width + i] = t * width + i < O ? dy[n * O + t * width + i] : T(0);
  return packed;
}

template <typename T>
void each(int64_t units, int64_t scratch_size, const FewCall<T>& call,
    void (*unit)(const FewCall<T>&, int64_t, T*)) {
  share_out(units,
      [&] { return [&, scratch = Aligned<T>(scratch_size)](int64_t i) { unit(call, i, scratch.data()); }; });
}

template <typename T>
void forward(const InnerProductShape& q, const std::string& variant, const T* x, const T* w, T* y) {
  const FewRows<T>& rows = chosen<T>(variant);
  const Aligned<T> chunks = in_chunks(x, q.N, q.K);
  const FewCall<T> call{q.N, q.O, q.K, w, chunks.data(), nullptr, y};
  each(call.forward_units(), rows.forward_scratch(q.N), call, rows.forward);
}

template <typename T>
void dx(const InnerProductShape& q, const std::string& variant, const T* dy, const T* w, T* out) {
  const FewRows<T>& rows = chosen<T>(variant);
  const Aligned<T> columns = in_tiles(dy, q.N, q.O, 1);
  const FewCall<T> call{q.N, q.O, q.K, w, nullptr, columns.data(), out};
  each(call.dx_units(), rows.dx_scratch(q.N), call, rows.dx);
}

template <typename T>
void dw(const InnerProductShape& q, const std::string& variant, const T* dy, const T* x, T* out) {
  const FewRows<T>& rows = chosen<T>(variant);
  const Aligned<T> chunks = in_chunks(x, q.N, q.K), tiles = in_tiles(dy, q.N, q.O, kFewTile);
  const FewCall<T> call{q.N, q.O, q.K, nullptr, chunks.data(), tiles.data(), out};
  each(call.dw_units(), 0, call, rows.dw);
}

// The matrix [rows, columns] that fill(its values) computes.
template <typename Fill>
Tensor matrix(const Tensor& like, int64_t rows, int64_t columns, Fill&& fill) {
  Tensor out = torch::stable::new_empty(like, {rows, columns});
  THO_DISPATCH_V2(like.scalar_type(), "crnn::inner_product on cpu",
      AT_WRAP([&] { fill(out.mutable_data_ptr<scalar_t>()); }), AT_EXPAND(AT_FLOATING_TYPES));
  return out;
}

Tensor inner_product_cpu(const Tensor& x, const Tensor& weight, Text variant) {
  const InnerProductShape q = check_inner_product(x, weight);
  return matrix(x, q.N, q.O,
      [&]<typename T>(T* y) { forward(q, variant, x.const_data_ptr<T>(), weight.const_data_ptr<T>(), y); });
}

Tensor inner_product_input_backward_cpu(const Tensor& dy, const Tensor& weight, Text variant) {
  const InnerProductShape q = check_inner_product_input_backward(dy, weight);
  return matrix(dy, q.N, q.K,
      [&]<typename T>(T* out) { dx(q, variant, dy.const_data_ptr<T>(), weight.const_data_ptr<T>(), out); });
}

Tensor inner_product_weights_backward_cpu(const Tensor& dy, const Tensor& x, Text variant) {
  const InnerProductShape q = check_inner_product_weights_backward(dy, x);
  return matrix(x, q.O, q.K,
      [&]<typename T>(T* out) { dw(q, variant, dy.const_data_ptr<T>(), x.const_data_ptr<T>(), out); });
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("inner_product", TORCH_BOX(&inner_product_cpu));
  m.impl("inner_product_input_backward", TORCH_BOX(&inner_product_input_backward_cpu));
  m.impl("inner_product_weights_backward", TORCH_BOX(&inner_product_weights_backward_cpu));
}

}  // namespace crnn
