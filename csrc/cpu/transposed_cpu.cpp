// Transposed matrices on the CPU: a map's change between contiguous and channels_last order.
//
//   work     a unit is some rows by some columns of a matrix, in squares that are turned in the first cache
//   order    values are moved, not computed
//   cost     a value is read and written once, by whole cache lines where the matrix has them (torch's copy
//            goes value by value and takes two to four times as long)
#include <torch/headeronly/core/Dispatch_v2.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <type_traits>

#include "../core/transposed.h"

namespace crnn {
namespace {

using torch::headeronly::ScalarType;

constexpr int64_t kSide = 32;  // of a square: two cache lines of float, which is faster than one
constexpr int64_t kColumns = 1 << 12;
constexpr int64_t kGrain = 1 << 14;  // values: enough work for a thread to be worth waking

// to[c * to_stride + r] = from[r * from_stride + c], for r and c below 4.
template <typename T>
void turn(const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  typedef T Four __attribute__((vector_size(4 * sizeof(T)), aligned(alignof(T)), may_alias));
  typedef std::make_signed_t<T> Index __attribute__((vector_size(4 * sizeof(T))));
  Four row[4];
  for (int r = 0; r < 4; ++r) row[r] = *(const Four*)(from + r * from_stride);
  const Index low{0, 4, 1, 5}, high{2, 6, 3, 7}, first{0, 1, 4, 5}, second{2, 3, 6, 7};
  for (int half = 0; half < 2; ++half, to += 2 * to_stride) {
    const Four upper = __builtin_shuffle(row[0], row[1], half ? high : low),
               lower = __builtin_shuffle(row[2], row[3], half ? high : low);
    *(Four*)to = __builtin_shuffle(upper, lower, first);
    *(Four*)(to + to_stride) = __builtin_shuffle(upper, lower, second);
  }
}

// The square of `rows` by `columns`, at the most kSide.
template <typename T>
void turn_square(
    int64_t rows, int64_t columns, const T* from, int64_t from_stride, T* to, int64_t to_stride) {
  if (rows == kSide && columns == kSide) {  // by way of a buffer, so that whole lines are written
    alignas(64) T square[kSide * kSide];
    for (int64_t r = 0; r < kSide; r += 4)
      for (int64_t c = 0; c < kSide; c += 4)
        turn(from + r * from_stride + c, from_stride, square + c * kSide + r, kSide);
    for (int64_t c = 0; c < kSide; ++c) std::copy_n(square + c * kSide, kSide, to + c * to_stride);
    return;
  }
  const int64_t whole = rows / 4 * 4;
  for (int64_t r = 0; r < whole; r += 4) {
    int64_t c = 0;
    for (; c + 4 <= columns; c += 4)
      turn(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
    for (; c < columns; ++c)
      for (int64_t i = r; i < r + 4; ++i) to[c * to_stride + i] = from[i * from_stride + c];
  }
  for (int64_t r = whole; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = from[r * from_stride + c];
}

template <typename T>
void run(const TransposedShape& q, const T* x, T* y) {
  const int64_t strips = (q.rows + kSide - 1) / kSide, blocks = (q.columns + kColumns - 1) / kColumns,
                values = std::min(kSide, q.rows) * std::min(kColumns, q.columns);
  const auto unit = [&](int64_t i) {
    const int64_t matrix = i / (strips * blocks), row = i / blocks % strips * kSide,
                  column = i % blocks * kColumns, rows = std::min(kSide, q.rows - row),
                  end = std::min(column + kColumns, q.columns);
    const T* from = x + (matrix * q.rows + row) * q.columns;
    T* to = y + matrix * q.rows * q.columns + row;
    for (int64_t c = column; c < end; c += kSide)
      turn_square(rows, std::min(kSide, end - c), from + c, q.columns, to + c * q.rows, q.rows);
  };
  torch::stable::parallel_for(0, q.count * strips * blocks, kGrain / std::max<int64_t>(1, values) + 1,
      [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) unit(i);
      });
}

// Values of S are moved as integers of their size.
template <typename S>
using Bits =
    std::conditional_t<sizeof(S) == 8, uint64_t, std::conditional_t<sizeof(S) == 4, uint32_t, uint16_t>>;

Tensor transposed_cpu(const Tensor& x) {
  const TransposedShape q = check_transposed(x);
  Tensor y = torch::stable::new_empty(x, {q.count, q.columns, q.rows});
  THO_DISPATCH_V2(x.scalar_type(), "crnn::transposed on cpu", AT_WRAP([&] {
    run(q, (const Bits<scalar_t>*)x.const_data_ptr<scalar_t>(),
        (Bits<scalar_t>*)y.mutable_data_ptr<scalar_t>());
  }),
      AT_EXPAND(AT_FLOATING_TYPES), ScalarType::Half, ScalarType::BFloat16);
  return y;
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(crnn, CPU, m) {
  m.impl("transposed", TORCH_BOX(&transposed_cpu));
}

}  // namespace crnn
